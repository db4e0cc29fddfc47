"""The real daemon, that kills itself (SIGKILL) at one step of its write path: for tests of a death between two steps."""

import itertools
import os
import signal

from sqlalchemy import event
from sqlalchemy.orm import Session

from clinician_dashboard.__main__ import main
from clinician_dashboard.receipts import Receipts
from clinician_dashboard.record.images import ImageStore

STEP = os.environ.get("DIE_AT", "")
COUNT = itertools.count(1)
AFTER = int(os.environ.get("DIE_AFTER", "1"))


def die_sometimes(step: str) -> None:
    if step == STEP and next(COUNT) >= AFTER:
        os.kill(os.getpid(), signal.SIGKILL)


put, send = ImageStore.put, Receipts.send


def deadly_put(self, image, sha256):
    kept = put(self, image, sha256)
    die_sometimes("image")  # the file is there, nothing is committed
    return kept


def deadly_send(self, recorded):
    if recorded:
        die_sometimes("receipt")  # it is committed, nobody was told
    send(self, recorded)
    if recorded:
        die_sometimes("told")  # queued or on the line, nothing is acknowledged towards the broker


@event.listens_for(Session, "before_commit")
def deadly_commit(session):
    if session.new or session.dirty or session.identity_map:
        die_sometimes("commit")


ImageStore.put, Receipts.send = deadly_put, deadly_send
main()
