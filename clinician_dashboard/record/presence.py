"""Whether a device or worker is there: which of its states is believed, and what is shown.

Which state is believed
    =========================================  ===================================================================
    a higher birth than the known one          believed: a new start
    the same birth, online or draining         believed
    the same birth, offline                    believed until the next word: a will, or a goodbye. A will was written
                                               when its sender connected, so the later figures stay
    a lower birth, offline                     a late will: not believed
    a lower birth, online, fresh, and stated   believed: its count of starts was lost with its disk. Fresh: not kept by
    later than the known state by the          the broker for late subscribers
    sender's own clock
    a lower birth, otherwise                   a late state: not believed
    =========================================  ===================================================================

Ages are taken from this machine's clock at receipt, never from the sender's, so a sender whose clock jumps stays as it is.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from clinician_dashboard.record.tables import DeviceRow, WorkerRow

SILENT_AFTER = timedelta(seconds=90)
OVERTAKEN = timedelta(seconds=5)
"""What was sent before a will may be read up to so much after it."""


@dataclass(frozen=True)
class Heard:
    """A state with how it came.

    Attributes:
        state: The state.
        retained: The broker had kept it: it may be old, and shows no life.
    """

    state: DeviceState | WorkerState
    retained: bool = False


@dataclass(frozen=True)
class Presence:
    """What is shown of a device or worker.

    Attributes:
        status: ``online``, ``draining``, ``silent`` or ``offline``.
        note: Why, where it is not what its state says; otherwise empty.
        last: Its last sign of life, by this machine's clock.
    """

    status: str
    note: str
    last: datetime


def believe(known: DeviceRow | WorkerRow | None, heard: Heard) -> bool:
    """Return whether a state is believed; see the module's docstring for the rule."""
    state = heard.state
    if known is None or state.birth >= known.birth:
        return True
    return (
        state.presence != "offline"
        and not heard.retained
        and state.at > datetime.fromisoformat(known.state["at"])
    )


def take(row: DeviceRow | WorkerRow, heard: Heard, *, at: datetime) -> None:
    """Bring a row up to date with a state that is believed, received ``at``."""
    state = heard.state
    fields = state.model_dump(mode="json")
    repeated = bool(row.state) and (row.birth, row.state["at"]) == (state.birth, fields["at"])
    if not (heard.retained and repeated):  # the broker's copy of what is known is no sign of life
        row.heard_at = at
        row.live = not heard.retained
    if state.presence == "offline" and row.state and row.birth == state.birth:
        earlier = state.at <= datetime.fromisoformat(row.state["at"])
        fields = {**row.state, "presence": "offline"} if earlier else fields
    row.birth, row.presence, row.state = state.birth, state.presence, fields


def presence_of(row: DeviceRow | WorkerRow, *, now: datetime) -> Presence:
    """Return what to show of a device or worker at the moment ``now``."""
    thing, work = ("microscope", "frames") if isinstance(row, DeviceRow) else ("worker", "diagnoses")
    last = max(row.heard_at, row.seen_at or row.heard_at)
    quiet = now - last > SILENT_AFTER
    if row.presence == "offline":
        if row.seen_at is not None and row.seen_at - row.heard_at > OVERTAKEN and not quiet:
            return Presence(
                "online", f"its state says offline, but {work} keep coming from it: it is alive", last
            )
        return Presence("offline", "", last)
    if quiet:
        seconds = int((now - last).total_seconds())
        why = "no state and no " + work + " since"
        return Presence("silent", f"silent for {seconds} s: {why}", last)
    if not row.live and row.seen_at is None:
        return Presence(row.presence, f"as the broker kept it; this {thing} has not spoken since", last)
    return Presence(row.presence, "", last)


def as_fields(presence: Presence, *, now: datetime) -> dict[str, Any]:
    """Return a presence as plain fields, for the JSON API."""
    return {
        "status": presence.status,
        "note": presence.note,
        "last_sign_of_life": presence.last,
        "silent_s": round((now - presence.last).total_seconds(), 1),
    }
