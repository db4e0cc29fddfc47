"""Who did what, as FHIR resources: Practitioner, Provenance with the signature, AuditEvent.

The signature is the desk's own: the signer gave the password again, and the record keeps the content under its SHA-256 in the
chained audit. It is no cryptographic signature, so ``Signature.data`` is left empty; the hash is an identifier of the report.
"""

from collections.abc import Iterator

from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import Signature
from clinician_dashboard.reports.fhir_parts import Fields, Naming, Release, concept, instant, reference


def people(naming: Naming) -> Iterator[Fields]:
    """Yield the signer as a Practitioner; nothing while nobody has signed."""
    signature = naming.report.signature
    if signature is None:
        return
    yield naming.start("Practitioner", "person", person_of(naming, signature)) | {
        "identifier": [{"system": f"{v.LOCAL}/site/{naming.report.site}/user", "value": signature.login}],
        "active": True,
        "name": [{"text": signature.name or signature.login}],
    }


def person_of(naming: Naming, signature: Signature) -> str:
    """Return the name that the signer's id is made of."""
    return f"{naming.report.site}/{signature.login}"


def provenances(naming: Naming) -> Iterator[Fields]:
    """Yield who made the report and from what: the models, and the signer where there is one."""
    report = naming.report
    signature = report.signature
    frames = [{"role": "source", "what": reference("frame", frame.frame_id)} for frame in report.frames]
    models = [
        {"type": concept(v.AUTHOR), "who": reference("model", model.weights_sha256)}
        for model in report.models
    ]
    assembler = {"type": concept(v.ASSEMBLER), "who": reference("dashboard", "hemolink")}
    of_models: Fields = naming.start("Provenance", "provenance", naming.act, speaker="model", act=naming.act)
    said = "result" if signature is None else "model-result"
    of_models |= {
        "target": ([reference("report", naming.case)] if signature is None else [])
        + [reference(said, naming.case)],
        "recorded": instant(report.made_at if signature is None else report.as_of),
        "activity": concept(v.CREATE),
        "agent": [*models, assembler],
    } | ({"entity": frames} if frames else {})
    yield of_models
    if signature is None:
        return
    signer = reference("person", person_of(naming, signature))
    entities = list(frames)
    if signature.earlier:
        before = {"system": f"{v.LOCAL}/report-version", "value": f"{naming.case}/{signature.version - 1}"}
        entities.append({"role": "revision", "what": {"identifier": before}})
    agents = [{"type": concept(v.ATTESTER), "who": signer, "onBehalfOf": {"display": report.site}}]
    agents += [
        {"type": concept(v.VERIFIER), "who": {"display": name}}
        for name in (signature.second, signature.adjudicator)
        if name
    ]
    yield naming.start("Provenance", "signature", naming.act, speaker="clinician", act=naming.act) | {
        "target": [reference("report", naming.case), reference("result", naming.case)],
        "occurredDateTime": instant(signature.signed_at),
        "recorded": instant(signature.signed_at),
        "activity": concept(v.CREATE if signature.version == 1 else v.UPDATE),
        "agent": [*agents, assembler],
        **({"entity": entities} if entities else {}),
        "signature": [
            {"type": [v.AUTHORS_SIGNATURE.coding()], "when": instant(signature.signed_at), "who": signer}
        ],
    }


def audit_event(naming: Naming, release: Release) -> Fields:
    """Return what happened to the report: made, attested or amended, by whom and when."""
    report = naming.report
    signature = report.signature
    what = {"preliminary": v.ORIGINATED, "final": v.ATTESTED, "amended": v.AMENDED}[report.status]
    desk = reference("dashboard", "hemolink")
    agents: list[Fields] = []
    if signature is not None:
        agents.append({"who": reference("person", person_of(naming, signature)), "requestor": True})
    agents.append({"who": desk, "requestor": signature is None})
    fields = naming.start("AuditEvent", "audit", naming.act, act=naming.act) | {
        "action": "U" if report.status == "amended" else "C",
        "recorded": instant(report.as_of),
        "agent": agents,
        "source": {"observer": desk},
        "entity": [{"what": reference("report", naming.case)}],
    }
    if release == "r4b":
        return fields | {"type": what.coding(), "outcome": "0"}
    return fields | {"code": concept(what)}
