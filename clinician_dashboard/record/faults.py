"""What is wrong with the record, in one sentence with the remedy, from what SQLite or the disk said."""

import errno
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

MAKE_ROOM = "make room on the disk; nothing is lost meanwhile"
LOCKED = "end what locks it: another program has the database open for writing"
READ_ONLY = "make the record's folder and files writable to this user"
RESTORE = (
    "stop the dashboard, look with 'hemolink dashboard verify', and bring the last backup back with 'hemolink dashboard "
    "restore'; never delete the images beside it"
)
UNKNOWN = "the dashboard's log and 'hemolink doctor' say more"

LEAST_ROOM_BYTES = 1024 * 1024

_OFTEN_FULL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BY_CODE = {
    sqlite3.SQLITE_FULL: MAKE_ROOM,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: f"{READ_ONLY}; a full disk looks like this too: {MAKE_ROOM}",
    sqlite3.SQLITE_IOERR: f"look at the disk and its log (a full disk looks like this too: {MAKE_ROOM})",
}
_BY_ERRNO = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.EFBIG: MAKE_ROOM,
    errno.EACCES: READ_ONLY,
    errno.EPERM: READ_ONLY,
    errno.EROFS: READ_ONLY,
}


def cause_of(error: SQLAlchemyError | sqlite3.Error) -> str:
    """Return what the database itself said, on one line."""
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200]


def is_damaged(error: BaseException) -> bool:
    """Return whether the database file itself is damaged, so that no repetition helps."""
    return _code(error) in _DAMAGED


def remedy_of(error: BaseException, *, directory: Path | None = None) -> str:
    """Return what a person has to do about an error of the database or the disk.

    Args:
        error: What was raised.
        directory: Where the record lives: what SQLite calls an I/O error is often a full disk there.
    """
    if is_damaged(error):
        return RESTORE
    if directory is not None and _code(error) in _OFTEN_FULL and is_full(directory):
        return MAKE_ROOM
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, "check the folder's permissions and the disk")
    return _BY_CODE.get(_code(error), UNKNOWN)


def is_full(directory: Path) -> bool:
    """Return whether hardly anything can be written there."""
    try:
        return shutil.disk_usage(directory).free < LEAST_ROOM_BYTES
    except OSError:
        return False


def sentence(error: BaseException, *, directory: Path | None = None) -> str:
    """Return why the record cannot be written, and the remedy."""
    if isinstance(error, OSError):
        return f"an image cannot be written ({error.strerror or error}): {remedy_of(error)}"
    said = cause_of(error) if isinstance(error, SQLAlchemyError | sqlite3.Error) else str(error)
    what = "the record is damaged" if is_damaged(error) else "the record cannot be written"
    return f"{what} ({said}): {remedy_of(error, directory=directory)}"


def _code(error: BaseException) -> int:
    original = getattr(error, "orig", error)
    # Extended codes carry the primary one in their low byte.
    return int(getattr(original, "sqlite_errorcode", 0) or 0) & 0xFF
