"""A bundle as a FHIR transaction that may be sent any number of times and leaves the same behind (hl7.org/fhir/http.html, 3.1.0.11).

What changes from preliminary to amended is updated by its identifier; what never changes is created where it is not there yet; an act
(Provenance, AuditEvent), which has no identifier, is created once, by a tag of ours. Resources go without our own ids: the server
gives its own, and resolves the references between them by the entries' ``fullUrl``.
"""

from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from clinician_dashboard.reports.fhir_parts import Fields

UPDATED: Final = frozenset({"DiagnosticReport", "Observation", "DocumentReference"})
ACTS: Final = frozenset({"Provenance", "AuditEvent"})


def transaction(bundle: Fields, *, leave_out: Collection[str] = ()) -> Fields:
    """Return a collection bundle as a transaction.

    Args:
        bundle: From `clinician_dashboard.reports.fhir.fhir_bundle`.
        leave_out: Kinds of resources that are not sent. Nothing may refer to them.
    """
    entries = [
        {
            "fullUrl": entry["fullUrl"],
            "resource": {name: value for name, value in entry["resource"].items() if name != "id"},
            "request": _request(entry["resource"]),
        }
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] not in leave_out
    ]
    return {
        "resourceType": "Bundle",
        **({"meta": bundle["meta"]} if bundle.get("meta") else {}),
        "type": "transaction",
        "entry": entries,
    }


def _request(resource: Fields) -> Fields:
    kind = resource["resourceType"]
    if kind in ACTS:
        (tag,) = resource["meta"]["tag"]
        return {"method": "POST", "url": kind, "ifNoneExist": f"_tag={_token(tag['system'], tag['code'])}"}
    first = resource["identifier"][0]
    named = f"identifier={_token(first['system'], first['value'])}"
    if kind in UPDATED:
        return {"method": "PUT", "url": f"{kind}?{named}"}
    return {"method": "POST", "url": kind, "ifNoneExist": named}


def _token(system: str, value: str) -> str:
    return f"{quote(system, safe='')}%7C{quote(value, safe='')}"
