"""Which frames may have killed this worker, how often, and what follows from it.

A frame that was being decoded or inferred when the process died is a suspect, and so were those beside it. From then on
it is only worked on alone (`cloud_worker.solitary`): that clears the innocent at the first success, and after
`DEATHS_ALONE` deaths with this frame alone at work, none of them followed by a success, it is condemned: a dead
letter, without being touched again. So SIGKILL by an operator, or by the kernel for another process's greed, condemns
nobody: it would have to strike three times while the same frame is alone at work.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker_config.errors import SettingsError
from broker_config.messages import Moment, now
from broker_config.process import write_durably
from cloud_worker.errors import FrameRejected
from cloud_worker.journal import Leftover

logger = logging.getLogger(__name__)

DEATHS_ALONE = 3
"""After so many deaths with one frame alone at work, it is condemned."""

MAX_SUSPECTS = 1000
MAX_AGE = timedelta(days=7)
_PARDON = "pardon-"

Verdict = Literal["innocent", "suspect", "condemned"]


class Suspect(BaseModel):
    """What is held against one frame.

    Attributes:
        sha256: Of its payload.
        frame_id: Its id, empty if that could not be read.
        deaths: How often the process died while this frame was among those at work.
        deaths_alone: How often it died while this frame was alone at work, since its last success.
        hung: Whether the process ended the last time because the work took too long.
        at: When the last death was found.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    frame_id: str = ""
    deaths: int = 0
    deaths_alone: int = 0
    hung: bool = False
    at: Moment


class _Page(BaseModel):
    birth: int = 0
    suspects: list[Suspect] = []


class SuspectBook:
    """The suspects of one worker, durable and bounded in number and age. Any thread may call any method.

    Args:
        directory: Where the book lies, and where `pardon` leaves word.
        clock: Present time in UTC.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], datetime] = now) -> None:
        self._directory = Path(directory)
        self._clock = clock
        self._lock = threading.Lock()
        self._suspects: OrderedDict[str, Suspect] = OrderedDict()  # the latest death last
        self._birth = 0

    def open(self) -> None:
        """Read the book. One that cannot be understood is put aside and begun anew.

        Raises:
            SettingsError: If the folder or the book cannot be read or made.
        """
        path = self._path
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            page = _Page.model_validate_json(path.read_bytes()) if path.exists() else _Page()
        except ValidationError:
            logger.error("%s cannot be understood: put aside, and begun anew", path)  # noqa: TRY400
            path.replace(path.with_suffix(".unreadable"))
            page = _Page()
        except OSError as error:
            raise self._unusable(error) from None
        oldest = self._clock() - MAX_AGE
        with self._lock:
            self._birth = page.birth
            self._suspects = OrderedDict((one.sha256, one) for one in page.suspects if one.at > oldest)

    def accuse(self, leftovers: Sequence[Leftover], *, birth: int) -> list[Suspect]:
        """Take in what a journal says of a death; the same start's journal counts once.

        Args:
            leftovers: What stood in the journal.
            birth: Number of the start that wrote it.

        Returns:
            The suspects of this death.

        Raises:
            SettingsError: If the book cannot be written: what is not remembered would kill for ever.
        """
        with self._lock:
            if birth <= self._birth:
                return []
            found: dict[str, Suspect] = {}
            for one in leftovers:
                if not one.at_work or one.sha256 in found:
                    continue
                known = self._suspects.pop(one.sha256, None)
                found[one.sha256] = self._suspects[one.sha256] = Suspect(
                    sha256=one.sha256,
                    frame_id=one.frame_id,
                    deaths=(known.deaths if known else 0) + 1,
                    deaths_alone=(known.deaths_alone if known else 0) + one.alone,
                    hung=one.hung,
                    at=self._clock(),
                )
            while len(self._suspects) > MAX_SUSPECTS:
                self._suspects.popitem(last=False)
            self._birth = birth
            try:
                self._save()
            except OSError as error:
                raise self._unusable(error) from None
            return list(found.values())

    def verdict(self, sha256: str) -> Verdict:
        """Return what to do with a payload. Costs nothing as long as nobody is suspected."""
        suspect = self._suspects.get(sha256)
        if suspect is None:
            return "innocent"
        if suspect.deaths_alone < DEATHS_ALONE:
            return "suspect"
        if self._pardoned(sha256):
            with self._lock:
                self._suspects[sha256] = suspect.model_copy(update={"deaths_alone": 0})
                self._save_or_log()
            logger.info(
                "a condemned frame was pardoned: it is tried again", extra={"frame_id": suspect.frame_id}
            )
            return "suspect"
        return "condemned"

    def sentence(self, sha256: str) -> FrameRejected:
        """Return why a condemned payload is rejected."""
        suspect = self._suspects[sha256]
        what = "hung until the process was ended" if suspect.hung else "ended without a word"
        return FrameRejected(
            f"the worker {what} {suspect.deaths_alone} times with this frame alone at work: it is not touched again. Look at "
            "the image with care; after a fault was mended, 'hemolink worker dead-letters replay' tries it once more",
            code="hangs_engine" if suspect.hung else "kills_worker",
        )

    def deaths_alone(self, sha256: str) -> int:
        """Return how often the process died while this payload was alone at work; 0 for one that is not suspected."""
        suspect = self._suspects.get(sha256)
        return suspect.deaths_alone if suspect is not None else 0

    def acquit(self, sha256: str) -> None:
        """Strike a frame out: it was worked on, and the process lives."""
        with self._lock:
            if self._suspects.pop(sha256, None) is not None:
                self._save_or_log()

    def __len__(self) -> int:
        return len(self._suspects)

    @property
    def condemned(self) -> int:
        """How many frames are condemned."""
        with self._lock:
            return sum(one.deaths_alone >= DEATHS_ALONE for one in self._suspects.values())

    def _pardoned(self, sha256: str) -> bool:
        try:
            (self._directory / f"{_PARDON}{sha256}").unlink()
        except OSError:
            return False
        return True

    def _save_or_log(self) -> None:
        try:
            self._save()
        except OSError as error:
            # Harmless: an innocent frame stays suspected and is only run alone once more.
            logger.warning("%s", self._unusable(error))

    def _save(self) -> None:
        page = _Page(birth=self._birth, suspects=list(self._suspects.values()))
        write_durably(self._path, page.model_dump_json(indent=1).encode() + b"\n")

    @property
    def _path(self) -> Path:
        return self._directory / "book.json"

    def _unusable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"{self._path}: the book of suspect frames cannot be kept ({error.strerror or error}): make the directory "
            "writable to this user and leave room on the disk"
        )


def pardon(directory: Path, sha256: str) -> None:
    """Leave word for the worker of ``directory`` that a condemned payload is to be tried again.

    Raises:
        OSError: If the folder cannot be written.
    """
    Path(directory).mkdir(parents=True, exist_ok=True, mode=0o700)
    (Path(directory) / f"{_PARDON}{sha256}").touch()
