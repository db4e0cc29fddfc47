"""What the resources of a bundle are made of: codings, instants, references, names."""

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from clinician_dashboard.reports import vocabulary as v
from clinician_dashboard.reports.case_report import CaseReport, ReportFrame

Release = Literal["r4b", "r5"]
Fields = dict[str, Any]
Speaker = Literal["model", "clinician", "nobody"]
"""Who asserts what a resource says; nobody asserts a specimen or a device."""

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, v.LOCAL)


class Naming:
    """Ids, references and labels of one report's resources.

    Args:
        report: The case.
    """

    def __init__(self, report: CaseReport) -> None:
        self.report = report
        self.case = f"{report.site}/{report.code}"
        self.act = f"{self.case}/{report.status}/{report.version}"

    @property
    def case_system(self) -> str:
        """The system of the site's case codes."""
        return f"{v.LOCAL}/site/{self.report.site}/case"

    @property
    def accession(self) -> Fields:
        """The case code as an accession identifier."""
        return {"type": concept(v.ACCESSION), "system": self.case_system, "value": self.report.code}

    @property
    def subject(self) -> Fields:
        """The patient, of whom no more than the case code is known."""
        return {
            "type": "Patient",
            "identifier": {
                "type": concept(v.ANONYMOUS),
                "system": self.case_system,
                "value": self.report.code,
            },
        }

    def start(
        self, resource: str, kind: str, name: str, *, speaker: Speaker = "nobody", act: str = ""
    ) -> Fields:
        """Return the beginning of a resource: type, id, labels, and the tag of an act that has no identifier."""
        fields: Fields = {"resourceType": resource, "id": id_of(kind, name)}
        labels = self._labels(speaker)
        meta: Fields = {"security": labels} if labels else {}
        if act:
            meta["tag"] = [{"system": v.ACT, "code": id_of(kind, act)}]
        return fields | ({"meta": meta} if meta else {})

    @property
    def labels(self) -> list[Fields]:
        """The labels of the report as a whole."""
        return self._labels("clinician" if self.report.signature else "model")

    def _labels(self, speaker: Speaker) -> list[Fields]:
        labels = []
        if self.report.signature is None or speaker == "model":
            labels.append(v.AI_ASSERTED)  # while only a model has spoken, of everything; then of what it said
        elif speaker == "clinician":
            labels.append(v.CLINICIAN_ASSERTED)
        if self.report.simulated:
            labels.append(v.TEST_DATA)
        return [label.coding() for label in labels]


def id_of(kind: str, name: str) -> str:
    """Return the id of a resource: the same name gives the same id in every report."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def reference(kind: str, name: str) -> Fields:
    """Return a reference to a resource of the same bundle."""
    return {"reference": f"urn:uuid:{id_of(kind, name)}"}


def concept(*codes: v.Code, text: str = "") -> Fields:
    """Return a CodeableConcept."""
    return {"coding": [code.coding() for code in codes]} | ({"text": text} if text else {})


def percent(share: float) -> Fields:
    """Return a share as a Quantity in per cent."""
    return {"value": round(share * 100, 1), "unit": "%", "system": v.UCUM, "code": v.PERCENT.code}


def instant(moment: datetime) -> str:
    """Return a moment as FHIR's instant."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sentence(text: str) -> str:
    """Return a text that ends with a stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def caption(frame: ReportFrame) -> str:
    """Return what the model said of a frame, in a few words."""
    if frame.prediction is None:
        answer = "no answer"
    elif frame.state == "refer":
        answer = f"referred, leans {frame.prediction}"
    else:
        answer = f"{frame.prediction} {frame.probabilities[frame.prediction]:.0%}"
    return f"{frame.simulated + ': ' if frame.simulated else ''}frame {frame.number}, {answer}"
