"""Cases as reports see them, built without a record: preliminary ones of every kind, and signed ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np

from broker_config.messages import CLASSES
from clinician_dashboard.case_result import FrameReading, combine
from clinician_dashboard.reports.case_report import (
    Call,
    CaseReport,
    Earlier,
    Referral,
    ReportFrame,
    ReportModel,
    Signature,
)

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "a|b^c&d~e\\f\r\nMSH|^~\\&|<b>&amp;</b> \u2028 \u7532"
MODEL = ReportModel(
    name="resnet34",
    version="1.2.0",
    weights_sha256="ab" * 32,
    architecture="resnet34",
    engine="openvino-bf16",
    training_data="8,000 fields of simulated smears, simulator 1.0",
    simulated=True,
)


def image(seed=1):
    picture = np.random.default_rng(seed).integers(180, 240, (120, 160, 3), dtype=np.uint8)
    cv2.circle(picture, (80, 60), 30, (140, 60, 110), -1)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def frame(number, leading="AML", *, top=0.9, state="report", **changes):
    rest = (1 - top) / 4
    answered = state in ("report", "refer")
    fields = {
        "number": number,
        "frame_id": f"{number:032x}",
        "device": "scope-1",
        "captured_at": START + timedelta(seconds=number),
        "state": state,
        "prediction": leading if answered else None,
        "probabilities": {name: top if name == leading else rest for name in CLASSES} if answered else {},
        "reasons": ("The prediction set holds more than one class.",) if state == "refer" else (),
        "flags": (),
        "simulated": "SIMULATED",
        "encoding": "jpeg",
        "width": 1280,
        "height": 960,
        "pixel_size_um": 0.1,
        "image_sha256": f"{number:064x}",
        "worker": "worker-1" if answered else "",
        "weights_sha256": MODEL.weights_sha256 if answered else "",
        "activation": tuple(tuple((x + y) / 12 for x in range(7)) for y in range(7)) if answered else (),
    }
    return ReportFrame(**(fields | changes))


def report(frames, **changes):
    answered = [one for one in frames if one.prediction]
    result = combine([FrameReading(one.probabilities, one.state) for one in answered])
    states = ("report", "refer", "waiting", "refused")
    referred = [one for one in frames if one.state == "refer"]
    fields = {
        "site": "ward",
        "code": "HL-0001",
        "version": len(frames),
        "made_at": START + timedelta(hours=1),
        "opened_at": START,
        "changed_at": START + timedelta(minutes=2),
        "result_at": START + timedelta(minutes=1) if answered else None,
        "stat": False,
        "simulated": True,
        "headline": "Acute myeloid leukaemia suspected",
        "result": result,
        "microscopes": ("scope-1",),
        "workers": ("worker-1",) if answered else (),
        "by_state": {state: sum(one.state == state for one in frames) for state in states},
        "frames": tuple(frames),
        "referrals": (Referral("ambiguous", referred[0].reasons[0], len(referred)),) if referred else (),
        "referrals_seen": len(referred),
        "models": (MODEL,) if answered else (),
        "software": "0.1.0",
    }
    return CaseReport(**(fields | changes))


def _many():
    return [frame(n, state="refer" if n % 5 == 0 else "report", top=0.7 + n / 100) for n in range(1, 25)]


CASES = {
    "critical": lambda: report(_many()),
    "chronic": lambda: report(
        [frame(1, "CLL"), frame(2, "CLL")], headline="Chronic lymphocytic leukaemia suggested"
    ),
    "healthy": lambda: report([frame(1, "healthy")], simulated=False, headline="No leukaemia suggested"),
    "raised by a reader": lambda: report(
        [frame(1, "healthy")], headline="No leukaemia suggested", raised_by_reader=True
    ),
    "referred": lambda: report([frame(1, state="refer")], headline="The model does not answer"),
    "undecided": lambda: report([frame(1, "CML", top=0.4)], headline="The model does not answer"),
    "acute, type open": lambda: report([frame(1, "AML"), frame(2, "ALL")]),
    "waiting": lambda: report([frame(1, state="waiting")], headline="Waiting for the first answer"),
    "no frame": lambda: report([], headline="Waiting for the first answer"),
    "two models": lambda: report(_many(), models=(MODEL, replace(MODEL, weights_sha256="cd" * 32))),
    "hostile": lambda: report(
        [frame(1, state="refer", reasons=(HOSTILE,) * 4, flags=(HOSTILE,)), frame(2, state="refused")],
        headline=HOSTILE,
        referrals=tuple(Referral(f"c{n}", HOSTILE * 40, 3) for n in range(12)),
        models=tuple(
            replace(MODEL, name=HOSTILE * 20, training_data=HOSTILE * 60, weights_sha256=f"{n:064x}")
            for n in range(9)
        ),
        microscopes=tuple(f"scope-{n}" for n in range(40)),
        code="A" * 40,
    ),
}


def signature(**changes):
    fields = {
        "version": 1,
        "conclusion": "AML",
        "finer": "M3",
        "words": "Acute myeloid leukaemia, FAB M3, acute promyelocytic (APL)",
        "comment": "Auer rods in several cells.",
        "agrees": True,
        "reason": "",
        "name": "Dr Ada Example",
        "login": "ada",
        "role": "haematologist",
        "signed_at": START + timedelta(hours=2),
        "second": "Dr Ben Second",
        "adjudicator": "",
        "amend_reason": "",
        "sha256": "5e" * 32,
        "call": Call("requesting physician", START + timedelta(hours=1, minutes=40), "ada", read_back=True),
    }
    return Signature(**(fields | changes))


FIRST = Earlier(
    1, "final", "Acute myeloid leukaemia", "Dr Ada Example", START + timedelta(hours=2), "5e" * 32
)

SIGNED = {
    "final": lambda: report(_many(), version=1, signature=signature()),
    "amended, overridden": lambda: report(
        _many(),
        version=2,
        signature=signature(
            version=2,
            conclusion="CLL",
            finer="",
            words="Chronic lymphocytic leukaemia",
            agrees=False,
            reason="Mature lymphocytes or smudge cells decide",
            amend_reason="The flow cytometry came.",
            adjudicator="Dr Cai Third",
            call=None,
            warnings=("2 frames were still waiting.",),
            earlier=(FIRST,),
        ),
    ),
    "insufficient": lambda: report(
        [frame(1, state="refer")],
        version=1,
        signature=signature(
            conclusion="insufficient", finer="", words="Insufficient smear: repeat", agrees=None, call=None
        ),
    ),
    "other": lambda: report(
        [frame(1, "healthy")],
        version=1,
        simulated=False,
        headline="No leukaemia suggested",
        signature=signature(conclusion="other", finer="", words="Not leukaemia: other finding", call=None),
    ),
    "healthy": lambda: report(
        [frame(1, "healthy")],
        version=1,
        simulated=False,
        headline="No leukaemia suggested",
        signature=signature(conclusion="healthy", finer="", words="No leukaemia", second="", call=None),
    ),
    "superseded, hostile": lambda: report(
        [frame(1, state="refer", reasons=(HOSTILE,) * 4)],
        version=1,
        signature=signature(
            comment=HOSTILE * 30,
            name=HOSTILE,
            login="x" * 80,
            reason=HOSTILE,
            agrees=False,
            second=HOSTILE,
            warnings=(HOSTILE,) * 6,
            superseded_by=2,
        ),
    ),
}
