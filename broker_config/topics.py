"""Topic names and topic filters.

::

    {root}/v1/{site}/{device}/frame/{priority}     edge -> workers
    {root}/v1/{site}/{device}/diagnosis            worker -> clinicians (the clinician topic)
    {root}/v1/{site}/{device}/receipt              -> edge
    {root}/v1/{site}/{device}/rejected             worker -> operators (dead letters)
    {root}/v1/{site}/{device}/case                 dashboard -> operators: a case's combined preliminary result
    {root}/v1/{site}/{device}/review               dashboard -> edge, operators: a case was signed or amended
    {root}/v1/{site}/{device}/alert                dashboard -> operators: a critical finding, and what became of it
    {root}/v1/{site}/{device}/state                retained; birth and will
    {root}/v1/{site}/{device}/command/{verb}       -> edge, never retained
    {root}/v1/{site}/{device}/command/{verb}/response
    {root}/v1/fleet/{worker}/state                 retained; birth and will
    {root}/v1/fleet/model                          retained
    {root}/v1/fleet/stops                          retained; which model versions the desk has stopped

No topic level ever holds a patient identifier or a case code.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from broker_config.errors import TopicError

Priority = Literal["stat", "routine"]
Verb = Literal["capture", "pause", "resume", "settings", "status", "case-start", "case-stop", "retry"]
TopicKind = Literal[
    "frame",
    "diagnosis",
    "receipt",
    "rejected",
    "case",
    "review",
    "alert",
    "state",
    "command",
    "response",
    "worker-state",
    "fleet-model",
    "fleet-stops",
]

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
VERBS: tuple[Verb, ...] = get_args(Verb)
VERSION = "v1"
FLEET = "fleet"

_LEVEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


def check_level(level: str, *, name: str) -> str:
    """Return ``level`` if it may stand in a topic name, else raise.

    Args:
        level: One topic level, such as a site or a device.
        name: What the level is, for the message.

    Raises:
        TopicError: If it is not 1 to 48 characters of ``a-z 0-9 _ -`` that start with a letter or digit, or is
            the reserved word ``fleet``.
    """
    if not _LEVEL.fullmatch(level):
        raise TopicError(
            f"{name} {level!r} cannot stand in a topic: use 1 to 48 characters of a-z, 0-9, '_' and '-', "
            "starting with a letter or a digit, and nothing that identifies a patient"
        )
    if level == FLEET:
        raise TopicError(
            f"{name} may not be {FLEET!r}: that level is reserved for the workers; choose another"
        )
    return level


@dataclass(frozen=True)
class TopicName:
    """A topic name taken apart.

    Attributes:
        kind: Which message travels there.
        site: The site, empty for the fleet's topics.
        device: The device, or the worker for ``worker-state``.
        detail: The priority of a frame, the verb of a command or of a response, otherwise empty.
    """

    kind: TopicKind
    site: str = ""
    device: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Topics:
    """Builds and reads the topic names below one root.

    Attributes:
        root: The first level of every topic, by default ``hemolink``.
    """

    root: str = "hemolink"

    def __post_init__(self) -> None:
        check_level(self.root, name="topic root")

    def _device(self, site: str, device: str) -> str:
        return f"{self.root}/{VERSION}/{check_level(site, name='site')}/{check_level(device, name='device')}"

    def frame(self, site: str, device: str, priority: Priority) -> str:
        """Return the topic a device publishes its frames to."""
        if priority not in PRIORITIES:
            raise TopicError(f"priority {priority!r} is unknown: use one of {', '.join(PRIORITIES)}")
        return f"{self._device(site, device)}/frame/{priority}"

    def diagnosis(self, site: str, device: str) -> str:
        """Return the clinician topic of a device."""
        return f"{self._device(site, device)}/diagnosis"

    def receipt(self, site: str, device: str) -> str:
        """Return the topic on which a device hears what became of its frames."""
        return f"{self._device(site, device)}/receipt"

    def rejected(self, site: str, device: str) -> str:
        """Return the dead-letter topic of a device."""
        return f"{self._device(site, device)}/rejected"

    def case(self, site: str, device: str) -> str:
        """Return the topic on which the results of a device's cases are told."""
        return f"{self._device(site, device)}/case"

    def review(self, site: str, device: str) -> str:
        """Return the topic that says which cases with frames of a device were signed."""
        return f"{self._device(site, device)}/review"

    def alert(self, site: str, device: str) -> str:
        """Return the topic of critical findings in cases with frames of a device."""
        return f"{self._device(site, device)}/alert"

    def state(self, site: str, device: str) -> str:
        """Return the retained state topic of a device."""
        return f"{self._device(site, device)}/state"

    def command(self, site: str, device: str, verb: Verb) -> str:
        """Return the topic of one command to a device."""
        if verb not in VERBS:
            raise TopicError(f"command verb {verb!r} is unknown: use one of {', '.join(VERBS)}")
        return f"{self._device(site, device)}/command/{verb}"

    def response(self, site: str, device: str, verb: Verb) -> str:
        """Return the topic on which a device answers one command."""
        return f"{self.command(site, device, verb)}/response"

    def worker_state(self, worker: str) -> str:
        """Return the retained state topic of a worker."""
        return f"{self.root}/{VERSION}/{FLEET}/{check_level(worker, name='worker')}/state"

    def fleet_model(self) -> str:
        """Return the retained topic that names the model package the fleet should serve."""
        return f"{self.root}/{VERSION}/{FLEET}/model"

    def fleet_stops(self) -> str:
        """Return the retained topic that names the model versions whose answers are not to be used."""
        return f"{self.root}/{VERSION}/{FLEET}/stops"

    # Topic filters

    def all_frames(self) -> str:
        """Return the filter that matches every frame of every device."""
        return f"{self.root}/{VERSION}/+/+/frame/+"

    def shared_frames(self, pool: str) -> str:
        """Return the shared-subscription filter of a worker pool."""
        return f"$share/{check_level(pool, name='pool')}/{self.all_frames()}"

    def all_of(
        self, kind: Literal["diagnosis", "receipt", "rejected", "case", "review", "alert", "state"]
    ) -> str:
        """Return the filter that matches one kind of message from every device.

        The filter for ``state`` also matches the workers' states; `parse` tells the two apart.
        """
        return f"{self.root}/{VERSION}/+/+/{kind}"

    def all_worker_states(self) -> str:
        """Return the filter that matches every worker's state."""
        return f"{self.root}/{VERSION}/{FLEET}/+/state"

    def commands_to(self, site: str, device: str) -> str:
        """Return the filter that matches every command to one device, and no response."""
        return f"{self._device(site, device)}/command/+"

    def parse(self, topic: str) -> TopicName:
        """Take a topic name apart.

        Raises:
            TopicError: If the name is not one of Hemolink's under this root.
        """
        match topic.split("/"):
            case [self.root, "v1", "fleet", ("model" | "stops") as what]:
                return TopicName("fleet-model" if what == "model" else "fleet-stops")
            case [self.root, "v1", "fleet", worker, "state"] if _LEVEL.fullmatch(worker):
                return TopicName("worker-state", device=worker)
            case [self.root, "v1", site, device, *rest] if (
                site != FLEET and _LEVEL.fullmatch(site) and _LEVEL.fullmatch(device)
            ):
                match rest:
                    case ["frame", priority] if priority in PRIORITIES:
                        return TopicName("frame", site, device, priority)
                    case [
                        ("diagnosis" | "receipt" | "rejected" | "case" | "review" | "alert" | "state") as kind
                    ]:
                        return TopicName(kind, site, device)
                    case ["command", verb] if verb in VERBS:
                        return TopicName("command", site, device, verb)
                    case ["command", verb, "response"] if verb in VERBS:
                        return TopicName("response", site, device, verb)
        raise TopicError(f"topic {topic!r} is not one of Hemolink's under {self.root}/{VERSION}")
