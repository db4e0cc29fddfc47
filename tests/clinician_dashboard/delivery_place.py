"""A record with a way out, and a hand that signs without a desk around it."""

from datetime import UTC, datetime

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from clinician_dashboard.delivery.post import Post
from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.record import RecordWriter
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow
from clinician_dashboard.review.conclusions import words_of
from clinician_dashboard.review.signed import canonical_sha256, from_row, signed_versions
from clinician_dashboard.review.tables import ReviewRow, SignedVersionRow


class Place:
    """A record, a way out, and a hand that signs."""

    def __init__(self, record, make, **targets):
        self.record = record
        self.make = make
        self.targets = targets
        self.post = None
        self.open()

    def open(self):
        self.registry = CollectorRegistry()
        named = {"fhir": None, "mllp": None} | self.targets
        self.post = Post(self.record, **named, registry=self.registry)
        self.writer = RecordWriter(self.record, followers=[self.post.follow])

    def restart(self):
        self.post.stop()
        self.open()
        self.post.start()

    def see(self, code, *, frames=1, leading="AML"):
        made = [self.make.frame(code) for _ in range(frames)]
        self.writer.apply([*made, *(self.make.diagnosis(frame, leading) for frame in made)])
        self.post.ring()

    def sign(self, code, conclusion="AML", *, rollback=False, **changes):
        at = datetime.now(UTC)
        with self.record.transaction() as session:
            case = session.scalar(sa.select(CaseRow).where(CaseRow.code == code))
            before = signed_versions(session, case.id)
            number = len(before) + 1
            rows = session.execute(
                sa.select(FrameRow, DiagnosisRow.weights_sha256)
                .join(DiagnosisRow, DiagnosisRow.frame_id == FrameRow.frame_id)
                .where(FrameRow.case_id == case.id)
            ).all()
            content = content_of(case, rows, number, conclusion, at, before, **changes)
            row = SignedVersionRow(
                case_id=case.id,
                version=number,
                status=content["status"],
                signed_at=at,
                signer="ada",
                content=content,
                sha256=canonical_sha256(content),
            )
            session.add(row)
            review = session.get(ReviewRow, case.id) or ReviewRow(case_id=case.id, changed_at=at, revision=0)
            review.signed_version = number
            session.add(review)
            session.flush()
            self.post.signed(session, from_row(row))
            if rollback:
                raise RuntimeError("for a test")
        self.post.ring()

    def rows(self):
        with self.record.session() as session:
            return session.scalars(sa.select(DeliveryRow).order_by(DeliveryRow.id)).all()

    def states(self):
        return [(row.target, row.status, row.state) for row in self.rows()]

    def settled(self):
        return all(row.state != "waiting" for row in self.rows())

    def waiting_gauge(self, target):
        """What Prometheus is told waits for a target: read by the courier right after each change of the record."""
        labels = {"state": "waiting", "target": target}
        return self.registry.get_sample_value("hemolink_dashboard_deliveries", labels)


def content_of(case, rows, number, conclusion, at, before, **changes):
    agrees = conclusion == case.leading
    said = {"code": conclusion, "finer": "", "words": words_of(conclusion), "comment": "", "agrees": agrees}
    frames = [
        {
            "frame_id": frame.frame_id,
            "image_sha256": frame.image_sha256,
            "weights_sha256": weights,
            "state": "report",
            "label": "",
            "label_reason": "",
            "labelled_by": "",
        }
        for frame, weights in rows
    ]
    result = {name: case.result[name] for name in ("shares", "counted", "referred", "effective", "reasons")}
    model = {"headline": "Acute myeloid leukaemia suspected", "revision": case.revision, **result}
    model |= {"urgency": case.urgency, "decision": case.decision, "leading": case.leading}
    named = {"name": "resnet34-test", "version": "1.0.0", "simulated": False}
    content = {
        "form": 1,
        "case": {"site": case.site, "code": case.code, "devices": case.devices, "simulated": False},
        "version": number,
        "status": "final" if number == 1 else "amended",
        "conclusion": {**said, "reason": "" if agrees else "lineage"},
        "model": model,
        "models": [{**named, "weights_sha256": weights} for weights in {weights for _, weights in rows}],
        "frames": frames,
        "readings": [],
        "call": None,
        "warnings": [],
        "signer": {"name": "ada", "full_name": "Dr Ada Example", "role": "haematologist"},
        "signed_at": at.isoformat(),
        "amend_reason": "" if number == 1 else "The flow cytometry came.",
        "amends_sha256": before[-1].sha256 if before else "",
    }
    return content | changes
