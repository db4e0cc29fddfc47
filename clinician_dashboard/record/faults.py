"""What is wrong with the record, in one sentence with the remedy, from what the database or the disk said."""

import errno
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from clinician_dashboard.errors import RecordError

MAKE_ROOM = "make room on the disk; nothing is lost meanwhile"
LOCKED = "end what locks it: another program has the database open for writing"
READ_ONLY = "make the record's folder and files writable to this user"
RESTORE = (
    "stop the dashboard, look with 'hemolink dashboard verify', and bring the last backup back with 'hemolink dashboard "
    "restore'; never delete the images beside it"
)
SERVER = "see to the database server and the way to it; nothing is lost meanwhile"
SERVER_DAMAGED = (
    "stop the dashboard, have the database server's administrator look, and bring the last dump back with 'pg_restore'; never "
    "delete the images in the record's folder"
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

GONE = {"57P01", "57P02", "57P03"}
"""SQLSTATE of a PostgreSQL server that shuts down, has crashed, or is only starting."""
_SERVER_DAMAGED = {"XX001", "XX002"}
_BY_STATE = {
    "28": "check the user in database_url, the content of database_password_file, and pg_hba.conf at the server",
    "3D": "create the database that database_url names, with the encoding UTF8",
    "25": "let database_url name the server that may be written: this one is a standby",
    "42501": "grant the user of database_url the right to create and change tables in its schema",
    "42": "the record's tables are not as they should be: restore the database from its last dump",
    "53100": "make room on the disk of the database server; nothing is lost meanwhile",
    "53300": "let the database server take more connections (max_connections); a dashboard needs 16",
    "55": "end what locks the record's tables",
}
"""What to do, by SQLSTATE or its class (PostgreSQL 15, appendix A)."""
_PASSING = ("08", "25", "28", "3D", "40", "53", "55", "57", "58", "F0", "XX", "42501", "42P01", "42703")
"""States that say nothing against a message: the record must be mended, and the message waits."""


def is_passing(error: BaseException) -> bool:
    """Return whether the record is at fault and not the message: the same may be written later."""
    if isinstance(error, OSError | RecordError | PoolTimeout) or is_damaged(error):
        return True
    state = state_of(error)
    if state:
        return state.startswith(_PASSING)
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of what a PostgreSQL server said; empty where no server said it."""
    return str(_told(error).get("C", ""))


def cause_of(error: SQLAlchemyError | sqlite3.Error) -> str:
    """Return what the database itself said, on one line."""
    said = _told(error).get("M") or getattr(error, "orig", None) or error
    return (str(said).splitlines() or [type(error).__name__])[0][:200]


def is_damaged(error: BaseException) -> bool:
    """Return whether the database itself is damaged, so that no repetition helps."""
    return _code(error) in _DAMAGED or state_of(error) in _SERVER_DAMAGED


def remedy_of(error: BaseException, *, directory: Path | None = None) -> str:
    """Return what a person has to do about an error of the database or the disk.

    Args:
        error: What was raised.
        directory: Where the record lives: what SQLite calls an I/O error is often a full disk there.
    """
    if isinstance(error, DBAPIError) and not isinstance(error.orig, sqlite3.Error):
        return _remedy_at_server(state_of(error))
    if is_damaged(error):
        return RESTORE
    if directory is not None and _code(error) in _OFTEN_FULL and is_full(directory):
        return MAKE_ROOM
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, "check the folder's permissions and the disk")
    return _BY_CODE.get(_code(error), UNKNOWN)


def _remedy_at_server(state: str) -> str:
    if state in _SERVER_DAMAGED:
        return SERVER_DAMAGED
    return _BY_STATE.get(state) or _BY_STATE.get(state[:2], SERVER)


def is_full(directory: Path) -> bool:
    """Return whether hardly anything can be written there."""
    try:
        return shutil.disk_usage(directory).free < LEAST_ROOM_BYTES
    except OSError:
        return False


def sentence(error: BaseException, *, directory: Path | None = None) -> str:
    """Return why the record cannot be written, and the remedy."""
    if isinstance(error, RecordError):
        return str(error)
    if isinstance(error, OSError):
        return f"an image cannot be written ({error.strerror or error}): {remedy_of(error)}"
    said = cause_of(error) if isinstance(error, SQLAlchemyError | sqlite3.Error) else str(error)
    what = "the record is damaged" if is_damaged(error) else "the record cannot be written"
    return f"{what} ({said}): {remedy_of(error, directory=directory)}"


def unreadable(error: BaseException) -> str:
    """Return what a page says while the record cannot be read: the cause, the next step, and what happens meanwhile."""
    said = cause_of(error) if isinstance(error, SQLAlchemyError | sqlite3.Error) else str(error)
    return (
        f"The record cannot be read ({said}). Next: {remedy_of(error)}. Nothing is lost meanwhile: frames wait at the "
        "microscopes until they are recorded. /readyz and the log say more."
    )


def _told(error: BaseException) -> dict[str, str]:
    """Return the fields of a server's answer (PostgreSQL 15, 55.8), as the driver gives them."""
    words = getattr(getattr(error, "orig", None) or error, "args", ())
    return words[0] if words and isinstance(words[0], dict) else {}


def _code(error: BaseException) -> int:
    original = getattr(error, "orig", error)
    # Extended codes carry the primary one in their low byte.
    return int(getattr(original, "sqlite_errorcode", 0) or 0) & 0xFF
