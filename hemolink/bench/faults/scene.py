"""What a fault may touch."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hemolink.bench.faults.echo import Echo
from hemolink.bench.faults.evidence import Reader, Spooled
from hemolink.bench.faults.load import Load
from hemolink.bench.faults.plant import Plant
from hemolink.bench.faults.schedule import Event


@dataclass
class Scene:
    """The plant under load.

    Attributes:
        plant: What runs.
        load: Gives pictures.
        reader: Reads what the plant holds.
        echo: Hears messages and says them again.
        elapsed: Seconds since the load began.
        known: What was in a spool before a fault damaged it, by frame id.
    """

    plant: Plant
    load: Load
    reader: Reader
    echo: Echo
    elapsed: Callable[[], float]
    known: dict[str, Spooled] = field(default_factory=dict)


Undo = Callable[[], object]
Begin = Callable[[Scene, Event], Undo]


def nothing() -> None:
    """Put nothing right: it mends itself."""
