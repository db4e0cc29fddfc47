"""Orders from afar: what each verb does, and which orders are not obeyed."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from broker_config.device_messages import Command, CommandResponse, DeviceState
from broker_config.messages import now
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import CaseBook
from edge_agent.errors import CaseRefused, EdgeError
from edge_agent.settings import Settings
from edge_agent.spool import Spool

logger = logging.getLogger(__name__)

CHANGEABLE_SECTIONS = ("quality", "encoding")
CHANGEABLE_KEYS = ("interval_s",)
_MAX_REMEMBERED = 1000
_MAX_SENTENCE = 2000
_MAX_RETRIED = 100_000


class _NotObeyed(EdgeError):
    """Raised when an order is not obeyed whatever it says."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Arrived:
    """An order as it came.

    Attributes:
        command: The order.
        verb: The verb of its topic, which must be its own.
        retained: Whether the broker had kept it; such an order is stale.
    """

    command: Command
    verb: str
    retained: bool = False


@dataclass(frozen=True)
class Obeyed:
    """What became of an order.

    Attributes:
        outcome: ``taken``, or a stable code of why it was not obeyed.
        response: The answer; none for an order that was answered before.
    """

    outcome: str
    response: CommandResponse | None = None


class OrderDesk:
    """Obeys each order once and answers it. One thread uses it.

    Args:
        capture: The capture loop.
        cases: The case book.
        spool: The spool.
        state: Makes the device's state for the answer.
        max_age_s: An older order is refused.
        clock: Present time in UTC.
    """

    def __init__(
        self,
        *,
        capture: CaptureLoop,
        cases: CaseBook,
        spool: Spool,
        state: Callable[[], DeviceState],
        max_age_s: float,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._capture = capture
        self._cases = cases
        self._spool = spool
        self._state = state
        self._max_age_s = max_age_s
        self._clock = clock
        self._obeyed: OrderedDict[str, datetime] = OrderedDict()

    def obey(self, arrived: Arrived) -> Obeyed:
        """Carry out an order."""
        command = arrived.command
        if command.request_id in self._obeyed:
            return Obeyed("repeated")
        outcome = "taken"
        try:
            self._check(arrived)
            self._remember(command)
            done, ok = self._carry_out(command), True
        except _NotObeyed as error:
            done, ok, outcome = str(error), False, error.code
        except EdgeError as error:
            done, ok, outcome = str(error), False, "refused"
        logger.log(
            logging.INFO if ok else logging.WARNING,
            "order %s: %s",
            command.verb,
            # What strangers may have written into the keys of a settings order belongs into the answer, not into the log.
            done if ok or command.verb != "settings" else "refused",
            extra={"request_id": command.request_id},
        )
        response = CommandResponse(
            request_id=command.request_id,
            verb=command.verb,
            ok=ok,
            message=done[:_MAX_SENTENCE],
            state=self._state(),
            at=self._clock(),
        )
        return Obeyed(outcome, response)

    def _check(self, arrived: Arrived) -> None:
        command = arrived.command
        if command.verb != arrived.verb:
            raise _NotObeyed(
                f"the order says {command.verb!r} and its topic {arrived.verb!r}: make them agree",
                code="verb_mismatch",
            )
        if arrived.retained:
            raise _NotObeyed(
                "the order was retained, so it may be old: send orders without the retain flag",
                code="retained",
            )
        age_s = (self._clock() - command.at).total_seconds()
        if abs(age_s) > self._max_age_s:
            raise _NotObeyed(
                f"the order was issued {age_s:.0f} s ago by its own account, and the limit is {self._max_age_s:.0f} s: "
                "send it again, and check both clocks",
                code="too_old",
            )

    def _remember(self, command: Command) -> None:
        """Remember an order until its age alone would have it refused, so that none is ever obeyed twice."""
        horizon = self._clock() - timedelta(seconds=self._max_age_s)
        while self._obeyed and next(iter(self._obeyed.values())) < horizon:
            self._obeyed.popitem(last=False)
        if len(self._obeyed) >= _MAX_REMEMBERED:
            raise _NotObeyed(
                f"{len(self._obeyed)} orders came within {self._max_age_s:.0f} s: send it again later",
                code="overflow",
            )
        # It stays young for as long as its own account lets it, even if that lies ahead of this clock.
        self._obeyed[command.request_id] = max(command.at, self._clock())

    def _carry_out(self, command: Command) -> str:
        match command.verb:
            case "case-start" | "case-stop":
                return self._change_case(command)
            case "settings":
                return self._change(command.settings)
            case "pause" | "resume" | "capture":
                return self._steer(command)
            case "retry":
                return self._retry(command.frame_ids)
        return "this is the state"

    def _steer(self, command: Command) -> str:
        if command.verb == "pause":
            self._capture.pause()
            return "capture is paused"
        self._refuse_when_finished()
        if command.verb == "resume":
            self._capture.resume()
            return "capture goes on"
        wanted = command.frames or 1
        self._capture.take(wanted)
        return f"{wanted} fields will be taken, then capture is paused"

    def _retry(self, frame_ids: tuple[str, ...]) -> str:
        """Take parked frames back into the row; without ids, all of them."""
        wanted = frame_ids or tuple(
            row.frame_id for row in self._spool.rows(state="parked", limit=_MAX_RETRIED)
        )
        absent = [frame_id for frame_id in wanted if not self._spool.retry(frame_id)]
        told = f"{len(wanted) - len(absent)} of {len(wanted)} frames go back into the row"
        return f"{told}; not parked here: {', '.join(absent)}" if absent else told

    def _change_case(self, command: Command) -> str:
        if command.verb == "case-stop":
            ended = self._cases.stop()
            return f"case {ended.code} is stopped" if ended else "no case was started"
        if command.case is None:
            raise CaseRefused("case-start needs the case's code: send it as 'case'")
        case = self._cases.start(command.case, priority=command.priority or "routine")
        return f"case {case.code} ({case.priority}) is started"

    def _refuse_when_finished(self) -> None:
        if self._capture.finished:
            raise EdgeError(
                "the camera has no more pictures, or the number asked for is reached: restart the agent"
            )

    def _change(self, changes: dict[str, Any]) -> str:
        """Change settings until the next start; all of them or none."""
        if not changes:
            raise EdgeError("no settings were sent: name at least one, such as 'quality.min_focus'")
        raw = self._capture.settings.model_dump()
        for key, value in changes.items():
            section, _, name = key.partition(".")
            if key in CHANGEABLE_KEYS:
                raw[key] = value
            elif section in CHANGEABLE_SECTIONS and name in raw[section]:
                raw[section][name] = value
            else:
                known = [
                    *CHANGEABLE_KEYS,
                    *(f"{one}.{field}" for one in CHANGEABLE_SECTIONS for field in raw[one]),
                ]
                raise EdgeError(f"{key!r:.60} cannot be changed from afar: {', '.join(known)} can")
        try:
            self._capture.reconfigure(Settings.model_validate(raw))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EdgeError(f"{where} is not valid: {first['msg']}; nothing was changed") from None
        return f"{', '.join(sorted(changes))} changed until the next start"
