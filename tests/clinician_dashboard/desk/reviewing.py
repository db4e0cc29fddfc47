"""A review on a record of its own, with a clock that the test turns; and people who read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record import Record, RecordWriter
from clinician_dashboard.review.follower import ReviewFollower
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.watch import ReviewWatch
from tests.clinician_dashboard.desk.maker import Maker

ANNA = Actor("anna", "haematologist", "Dr Anna Abel", 1)
BEN = Actor("ben", "haematologist", "Dr Ben Berg", 2)
LEAD = Actor("lena", "lab_lead", "Dr Lena Lund", 3)
TECHNICIAN = Actor("tom", "technician", "Tom", 4)
WARD = ("ward", "HL-1")


class WrongPassword(Exception):
    pass


class Place:
    """A record with its review, and a clock that the test turns."""

    def __init__(self, record, make, **settings):
        self.record, self.make = record, make
        self.at = datetime.now(UTC)
        self.settings = ReviewSettings(**settings)
        self.heard = []
        told = {"settings": self.settings, "name": "desk"}
        self.follower = ReviewFollower(**told)
        self.writer = RecordWriter(record, followers=[self.follower])
        self.desk = ReviewDesk(
            record,
            **told,
            on_change=lambda *what: self.heard.append(what),
            confirm=self.confirm,
            clock=lambda: self.at,
        )
        self.escalated = []
        self.watch = ReviewWatch(
            record,
            **told,
            on_change=lambda *what: self.heard.append(what),
            on_escalated=lambda: self.escalated.append(1),
            clock=lambda: self.at,
        )

    def confirm(self, actor, password):
        if password != "right":
            raise WrongPassword

    def send(self, leading, *, number=1, case="HL-1", **changes):
        frames = [self.make.frame(case) for _ in range(number)]
        self.writer.apply([*frames, *(self.make.diagnosis(one, leading, **changes) for one in frames)])
        return [one.frame_id for one in frames]

    def later(self, **delta):
        self.at += timedelta(**delta)

    def facts(self, code="HL-1"):
        return self.desk.read("ward", code)

    def unmet(self, actor):
        return {one.code for one in self.facts().gates(actor, at=self.at) if not one.met}

    def rows(self, table):
        with self.record.session() as session:
            return session.scalars(select(table).order_by(*table.__mapper__.primary_key)).all()

    def read_and_sign(self, actor=ANNA, *, conclusion="CLL", frames=(), **changes):
        self.desk.claim(actor, *WARD)
        self.desk.view(actor, *WARD, frames)
        self.desk.conclude(actor, *WARD, Word(conclusion, reason="maturation"))
        return self.desk.sign(actor, *WARD, password="right", **changes)


def opened(record: Record, make: Maker, **settings: Any) -> Iterator[Place]:
    record.start()
    yield Place(record, make, **settings)
    record.stop()
