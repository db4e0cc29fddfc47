"""The outbox: what was committed goes out, in order, until it was acknowledged; what was not, never does."""

from concurrent.futures import Future

import pytest
from sqlalchemy import select

from broker_config.desk_messages import Alert
from broker_config.errors import NotConnected, PublishRefused
from broker_config.messages import now
from broker_config.topics import Topics
from clinician_dashboard.outbox import enqueue
from clinician_dashboard.outbox.sender import OutboxSender
from clinician_dashboard.outbox.tables import OutboxRow
from tests.clinician_dashboard.desk.stores import sqlite_store


def alert(case):
    return Alert(
        case=case,
        site="ward",
        device="scope-1",
        state="open",
        opened_at=now(),
        due_at=now(),
        by="desk",
        at=now(),
    )


class Broker:
    """Takes what is published, as it is told to."""

    def __init__(self):
        self.connected = True
        self.heard = []
        self.answers = []

    def publish_soon(self, publication):
        future = Future()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            future.set_exception(answer)
        else:
            self.heard.append(Alert.model_validate_json(publication.payload).case)
            future.set_result(None)
        return future


@pytest.fixture
def record(tmp_path):
    made = sqlite_store(tmp_path / "desk").record()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def sender(record, broker):
    made = OutboxSender(record, topics=Topics(), publisher=lambda: broker)
    yield made
    made.stop()


def put(record, *cases, key=""):
    with record.transaction() as session:
        for case in cases:
            enqueue(session, alert(case), site="ward", device="scope-1", key=key)


def waiting(record):
    with record.session() as session:
        return session.scalars(select(OutboxRow).order_by(OutboxRow.id)).all()


def test_what_is_committed_goes_out_in_order_and_is_gone(record, broker, sender, eventually):
    def act_that_fails():
        with record.transaction() as session:
            enqueue(session, alert("never"), site="ward", device="scope-1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        act_that_fails()
    put(record, *(f"HL-{number}" for number in range(40)))  # more than one window
    sender.start()
    sender.ring()
    eventually(lambda: sender.waiting() == 0)
    assert broker.heard == [f"HL-{number}" for number in range(40)]


def test_without_a_broker_everything_waits_through_a_restart(record, broker, sender, eventually):
    broker.connected = False
    put(record, "HL-1")
    sender.start()
    sender.ring()
    sender.stop()
    assert [row.kind for row in waiting(record)] == ["alert"]
    broker.connected = True
    again = OutboxSender(record, topics=Topics(), publisher=lambda: broker)
    again.start()
    again.ring()
    eventually(lambda: again.waiting() == 0)
    again.stop()
    assert broker.heard == ["HL-1"]


def test_what_was_not_acknowledged_is_sent_again_and_what_is_refused_blocks_nobody(
    record, broker, sender, eventually
):
    broker.answers = [NotConnected("gone"), PublishRefused("not authorised", reason_code=0x87)]
    put(record, "HL-1", "HL-2", "HL-3")
    sender.start()
    sender.ring()
    eventually(lambda: sender.waiting() == 0)
    assert broker.heard == ["HL-3", "HL-1"]


def test_of_one_key_only_the_latest_goes_out(record, broker, sender, eventually):
    put(record, "HL-1", "HL-2", key="case:ward/HL-1")
    put(record, "HL-3", key="case:ward/HL-1")
    assert len(waiting(record)) == 1
    with record.transaction() as session:
        session.add(
            OutboxRow(kind="of-tomorrow", site="w", device="d", key="", payload="{}", created_at=now())
        )
    sender.start()
    sender.ring()
    eventually(lambda: sender.waiting() == 0)
    assert broker.heard == ["HL-3"]


def test_a_later_word_that_replaces_one_on_its_way_is_sent_too(record, broker, sender, eventually):
    put(record, "HL-1", key="case:HL-1")
    first, publish = Future(), broker.publish_soon

    def hold(publication):
        done = publish(publication)
        return first if len(broker.heard) == 1 else done

    broker.publish_soon = hold
    sender.start()
    eventually(lambda: broker.heard == ["HL-1"], what="the first word is on its way")
    (old,) = waiting(record)
    put(record, "HL-2", key="case:HL-1")  # takes its place, and in SQLite its number
    (new,) = waiting(record)
    assert new.id == old.id
    first.set_result(None)
    eventually(lambda: waiting(record) == [], what="the outbox is empty")
    assert broker.heard == ["HL-1", "HL-2"]
