"""Looking into a SQLite file without changing it."""

import sqlite3
from pathlib import Path

TIMEOUT_S = 5.0


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open an existing database for reading; a daemon that runs on it is not disturbed.

    Raises:
        sqlite3.Error: If it is no database, or cannot be read.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=TIMEOUT_S)
    connection.execute("pragma query_only = on")
    return connection


def integrity_fault(path: Path) -> str:
    """Return what SQLite finds wrong with a file, empty if nothing."""
    try:
        connection = open_read_only(path)
        try:
            (said,) = connection.execute("pragma quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"{type(error).__name__}: {error}"
    return "" if said == "ok" else str(said)
