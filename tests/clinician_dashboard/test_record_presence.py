"""Presence: which state is believed, and what is shown; the table of `record/presence.py` case by case."""

from datetime import UTC, datetime, timedelta

import pytest

from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from clinician_dashboard.record.presence import Heard, believe, presence_of, take
from clinician_dashboard.record.tables import DeviceRow

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def said(presence="online", *, birth=5, later=0.0, **fields):
    return DeviceState(
        site="ward", device="scope-1", presence=presence, birth=birth, at=AT + later * SECOND, **fields
    )


@pytest.fixture
def row():
    made = DeviceRow(site="ward", device="scope-1")
    take(made, Heard(said(later=10, captured=7)), at=AT)
    return made


@pytest.mark.parametrize(
    ("state", "retained", "believed"),
    [
        (said(birth=6, later=11), False, True),
        (said("offline", birth=6, later=11), False, True),
        (said(later=20), False, True),
        (said(later=-3600), False, True),  # its clock jumped back
        (said("offline", later=0), False, True),
        (said("offline", birth=4, later=0), False, False),  # a late will
        (said("offline", birth=4, later=99), False, False),
        (said(birth=4, later=0), False, False),  # a late state
        (said(birth=1, later=99), False, True),  # its count of starts was lost
        (said(birth=1, later=99), True, False),
    ],
)
def test_which_state_is_believed(row, state, retained, believed):
    assert believe(row, Heard(state, retained)) is believed


def test_a_will_takes_the_presence_and_leaves_the_later_figures(row):
    take(row, Heard(said("offline", later=0)), at=AT + 30 * SECOND)
    assert (row.presence, row.state["captured"], row.state["presence"]) == ("offline", 7, "offline")
    assert presence_of(row, now=AT + 31 * SECOND).status == "offline"
    # Frames that come afterwards say that it lives; when they cease, it is gone again.
    row.seen_at = AT + 40 * SECOND
    shown = presence_of(row, now=AT + 41 * SECOND)
    assert (shown.status, "alive" in shown.note) == ("online", True)
    assert presence_of(row, now=AT + 140 * SECOND).status == "offline"


def test_silence_is_measured_by_the_clock_of_receipt(row):
    take(row, Heard(said(later=-86_400)), at=AT + 10 * SECOND)  # the sender's clock is a day behind
    assert presence_of(row, now=AT + 100 * SECOND).status == "online"
    shown = presence_of(row, now=AT + 101 * SECOND)
    assert (shown.status, shown.note.startswith("silent for 91 s")) == ("silent", True)
    row.seen_at = AT + 90 * SECOND  # a frame came without a state
    assert presence_of(row, now=AT + 101 * SECOND).status == "online"


def test_what_the_broker_kept_is_no_sign_of_life():
    late = DeviceRow(site="ward", device="scope-1")
    take(late, Heard(said(), retained=True), at=AT)
    assert "as the broker kept it" in presence_of(late, now=AT + SECOND).note
    take(late, Heard(said(), retained=True), at=AT + 60 * SECOND)  # connected anew: the same again
    assert presence_of(late, now=AT + 91 * SECOND).status == "silent"
    take(late, Heard(said(later=100)), at=AT + 92 * SECOND)
    shown = presence_of(late, now=AT + 93 * SECOND)
    assert (shown.status, shown.note) == ("online", "")


def test_the_pages_show_it(mosquitto_broker, tmp_path, desk, far_side, make, eventually):
    """A dashboard that starts late, a worker that dies, and one whose answers go on."""
    worker = WorkerState(worker="w1", pool="main", presence="online", birth=3, at=datetime.now(UTC))
    with far_side(mosquitto_broker.port, protocol="5") as far:
        far.send(make.state(birth=2, captured=5), worker)
        with desk(mosquitto_broker.port, tmp_path / "desk", protocol="5") as running:

            def fleet():
                answer = running.http.get("/api/v1/fleet").json()
                return {
                    one.get("device") or one["worker"]: one["presence"]
                    for one in answer["devices"] + answer["workers"]
                }

            eventually(lambda: len(fleet()) == 2)
            assert {one["status"] for one in fleet().values()} == {"online"}
            assert all("as the broker kept it" in one["note"] for one in fleet().values())
            far.send(
                make.state(birth=2, captured=6), worker.model_copy(update={"presence": "offline", "birth": 2})
            )
            eventually(lambda: fleet()["scope-1"]["note"] == "")
            assert fleet()["w1"]["status"] == "online"
            far.send(worker.model_copy(update={"presence": "offline"}))
            eventually(lambda: fleet()["w1"]["status"] == "offline")
            assert 'class="presence offline"' in running.http.get("/fleet").text
