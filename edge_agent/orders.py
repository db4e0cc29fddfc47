"""Orders from afar: what each verb does, and which orders are not obeyed."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from broker_config.messages import Command, CommandResponse, DeviceState, now
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import CaseBook
from edge_agent.errors import CaseRefused, EdgeError
from edge_agent.settings import Settings

logger = logging.getLogger(__name__)

CHANGEABLE_SECTIONS = ("quality", "encoding")
CHANGEABLE_KEYS = ("interval_s",)
_REMEMBERED = 1000


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


class OrderDesk:
    """Obeys each order once and answers it. One thread uses it.

    Args:
        capture: The capture loop.
        cases: The case book.
        state: Makes the device's state for the answer.
        max_age_s: An older order is refused.
        clock: Present time in UTC.
    """

    def __init__(
        self,
        *,
        capture: CaptureLoop,
        cases: CaseBook,
        state: Callable[[], DeviceState],
        max_age_s: float,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._capture = capture
        self._cases = cases
        self._state = state
        self._max_age_s = max_age_s
        self._clock = clock
        self._answered: OrderedDict[str, None] = OrderedDict()

    def obey(self, arrived: Arrived) -> CommandResponse | None:
        """Carry out an order.

        Returns:
            The answer, or None for an order that was answered before.
        """
        command = arrived.command
        if command.request_id in self._answered:
            return None
        self._answered[command.request_id] = None
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
        try:
            self._check(arrived)
            done = self._carry_out(command)
            ok = True
        except EdgeError as error:
            done, ok = str(error), False
        logger.log(
            logging.INFO if ok else logging.WARNING,
            "order %s: %s",
            command.verb,
            done,
            extra={"request_id": command.request_id},
        )
        return CommandResponse(
            request_id=command.request_id,
            verb=command.verb,
            ok=ok,
            message=done,
            state=self._state(),
            at=self._clock(),
        )

    def _check(self, arrived: Arrived) -> None:
        command = arrived.command
        if command.verb != arrived.verb:
            raise EdgeError(
                f"the order says {command.verb!r} and its topic {arrived.verb!r}: make them agree"
            )
        if arrived.retained:
            raise EdgeError("the order was retained, so it may be old: send orders without the retain flag")
        age_s = (self._clock() - command.at).total_seconds()
        if abs(age_s) > self._max_age_s:
            raise EdgeError(
                f"the order was issued {age_s:.0f} s ago by its own account, and the limit is {self._max_age_s:.0f} s: "
                "send it again, and check both clocks"
            )

    def _carry_out(self, command: Command) -> str:
        match command.verb:
            case "case-start" | "case-stop":
                return self._change_case(command)
            case "settings":
                return self._change(command.settings)
            case "pause":
                self._capture.pause()
                return "capture is paused"
            case "resume":
                self._refuse_when_finished()
                self._capture.resume()
                return "capture goes on"
            case "capture":
                self._refuse_when_finished()
                wanted = command.frames or 1
                self._capture.take(wanted)
                return f"{wanted} fields will be taken, then capture is paused"
        return "this is the state"

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
