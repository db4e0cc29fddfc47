"""A folder of pictures: each file once, in the order of their names, now or as they arrive."""

import hashlib
import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.image_file import read_image
from edge_agent.cameras.settings import FolderSettings
from edge_agent.errors import CameraEnded, CameraError, UnreadableFrame

_RESCAN_S = 0.25
_FULL_SCAN_S = 5.0  # a file that is written over changes no time of its folder
_CLOCK_GRAIN_NS = 2_000_000_000  # of the coarsest file system


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    changed_ns: int

    @property
    def token(self) -> str:
        """The same for the same file, and another once it is written again."""
        return hashlib.sha256(
            f"{self.name}|{self.size}|{self.changed_ns}".encode(errors="replace")
        ).hexdigest()


class FolderCamera:
    """A folder; see `edge_agent.cameras.base.Camera`.

    A file's name may hold a patient's, so the log calls a file by its number and the start of its token unless the
    settings say otherwise. A file still being written is awaited.
    """

    Settings: ClassVar = FolderSettings
    live: ClassVar[bool] = False
    simulated: ClassVar[bool] = False

    def __init__(self, settings: FolderSettings, context: CameraContext) -> None:
        self._settings = settings
        self._seen = context.seen
        self._forgotten = context.forgotten
        self._forgotten_before = 0
        self._ready: deque[_File] = deque()
        self._unsettled: dict[str, tuple[_File, float]] = {}
        self._offered: dict[str, _File] = {}
        self._number = 0
        self._scanned_at = 0.0
        self._folder_ns = 0

    @property
    def description(self) -> str:
        """What it is; the path may hold a patient's name."""
        return "watched folder" if self._settings.watch else "folder"

    def open(self) -> None:
        """Look at the folder.

        Raises:
            CameraError: If it is missing, not a folder, or cannot be read.
        """
        self._scan()

    def capture(self, *, timeout_s: float) -> RawFrame | None:
        """Return the next file's picture; see `Camera`."""
        deadline = time.monotonic() + timeout_s
        while not self._ready:
            if self._may_have_changed():
                self._scan()
            if self._ready:
                break
            if not self._settings.watch and not self._unsettled:
                raise CameraEnded("every file of the folder has been taken")
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            time.sleep(min(_RESCAN_S, remaining))
        return self._take(self._ready.popleft())

    def close(self) -> None:
        """Forget the files that were not taken; they are found again."""
        for file in self._ready:
            self._offered.pop(file.name, None)
        self._ready.clear()
        self._unsettled.clear()
        self._folder_ns = 0

    def _may_have_changed(self) -> bool:
        """Whether a scan is worth while: one look at the folder is cheaper than one at each of its thousands of files."""
        if self._forgotten() != self._forgotten_before or self._unsettled:
            return True
        if time.monotonic() - self._scanned_at > _FULL_SCAN_S:
            return True
        try:
            return self._settings.path.stat().st_mtime_ns != self._folder_ns
        except OSError:
            return True

    def _scan(self) -> None:
        """Put every new and settled file into the row, by name."""
        self._scanned_at = time.monotonic()
        if (forgotten := self._forgotten()) != self._forgotten_before:
            self._forgotten_before = forgotten
            waiting = {file.name for file in self._ready}
            self._offered = {name: file for name, file in self._offered.items() if name in waiting}
        present: dict[str, _File] = {}
        try:
            changed_ns = self._settings.path.stat().st_mtime_ns
            # A change within one tick of the clock would not show: a fresh time is not believed.
            self._folder_ns = changed_ns if time.time_ns() - changed_ns > _CLOCK_GRAIN_NS else 0
            with os.scandir(self._settings.path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    try:
                        status = entry.stat()
                    except OSError:
                        continue  # gone since, or a link to nothing
                    if stat.S_ISREG(status.st_mode):
                        present[entry.name] = _File(entry.name, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise CameraError(
                f"the folder that camera.path names cannot be read ({self._settings.path}: "
                f"{error.strerror or type(error).__name__}): create it, or check the path and its permissions"
            ) from None
        self._offered = {name: file for name, file in self._offered.items() if name in present}
        self._unsettled = {name: held for name, held in self._unsettled.items() if name in present}
        for name in sorted(present):
            file = present[name]
            if self._offered.get(name) != file and self._is_settled(file):
                self._offered[name] = file
                if not self._seen(file.token):
                    self._ready.append(file)

    def _is_settled(self, file: _File) -> bool:
        """Whether the file has stopped changing; a clock of another machine may have set its time."""
        limit = self._settings.settle_s
        age_s = time.time() - file.changed_ns / 1e9
        now = time.monotonic()
        held, since = self._unsettled.get(file.name, (None, now))
        if age_s >= limit or (held == file and now - since >= limit):
            self._unsettled.pop(file.name, None)
            return True
        if held != file:
            self._unsettled[file.name] = (file, now)
        return False

    def _take(self, file: _File) -> RawFrame:
        self._number += 1
        name = f"file {self._number} ({file.token[:12]})"
        if self._settings.log_file_names:
            name = f"file {file.name!r}"
        try:
            image, original = read_image(self._read(file), max_pixels=self._settings.max_pixels)
        except OSError as error:
            raise UnreadableFrame(
                f"{name}: it cannot be read ({error.strerror or type(error).__name__}): check its permissions",
                code="file_unreadable",
                source=file.token,
            ) from None
        except UnreadableFrame as error:
            raise UnreadableFrame(f"{name}: {error}", code=error.code, source=file.token) from None
        return RawFrame(
            image,
            original=original,
            pixel_size_um=self._settings.pixel_size_um,
            default_case=self._settings.case,
            source=file.token,
            name=name,
        )

    def _read(self, file: _File) -> bytes:
        if file.size > self._settings.max_file_bytes:
            raise UnreadableFrame(
                f"it has {file.size} bytes, more than camera.max_file_bytes ({self._settings.max_file_bytes}): it "
                "was not read; raise the limit if such files are expected",
                code="file_too_large",
            )
        return (self._settings.path / file.name).read_bytes()
