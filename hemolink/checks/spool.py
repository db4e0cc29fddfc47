"""Whether an edge's spool can be written, is whole, has room, and what waits in it."""

import sqlite3
from pathlib import Path

from edge_agent.settings import Settings, SpoolSettings
from hemolink.checks.machine import check_disk, check_writable
from hemolink.checks.sqlite import integrity_fault, open_read_only
from hemolink.finding import Finding, fault, fine, warning

AREA = "spool"


def check_spool(settings: Settings) -> list[Finding]:
    """Check the spool's folder, its disk, its database, its filling, and the frames that wait for a person."""
    directory = settings.directory
    unwritable = check_writable(directory, area=AREA)
    findings = [unwritable] if unwritable else []
    findings.append(check_disk(directory, area=AREA))
    path = directory / "spool.sqlite"
    if not path.exists():
        return [*findings, fine(AREA, f"none at {path} yet: the edge makes it when it starts")]
    if reason := integrity_fault(path):
        remedy = "check the disk and start the edge: it sets the file aside, keeps what can be read, and names what is lost"
        return [*findings, fault(AREA, f"{path} is damaged ({reason})", remedy), *_set_aside(directory)]
    return [
        *findings,
        *_filling(path, settings.spool),
        *_set_aside(directory),
        *_repair(directory),
        *_reserve(directory),
    ]


def _filling(path: Path, bounds: SpoolSettings) -> list[Finding]:
    try:
        connection = open_read_only(path)
        try:
            # Parked frames fill the spool too: the agent bounds all of them together.
            waiting, parked, size = connection.execute(
                "select count(*) filter (where state != 'parked'), count(*) filter (where state = 'parked'), "
                "coalesce(sum(bytes), 0) from frames"
            ).fetchone()
            lost, untold = _lost(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [warning(AREA, f"{path} cannot be read ({error})", "run the doctor of the edge's own release")]
    said = f"{waiting} frames wait, {size / 1e6:.1f} of {bounds.max_bytes / 1e6:.0f} MB filled"
    findings = [
        fault(
            AREA,
            f"{said}: nearly full, the edge stops capturing",
            "see why nothing is delivered (broker, workers, record), and to parked frames",
        )
        if size > bounds.high_water * bounds.max_bytes
        else fine(AREA, said)
    ]
    if parked:
        remedy = "look at them with 'hemolink edge spool list', then retry or export each"
        findings.append(warning(AREA, f"{parked} frames are parked and wait for a person", remedy))
    if lost:
        remedy = (
            "check the disk; 'hemolink edge spool list --lost' names them; take again what can be taken again"
        )
        told = "all are told to the record" if not untold else f"{untold} are not told to the record yet"
        findings.append(warning(AREA, f"{lost} frames were lost with a damaged disk; {told}", remedy))
    return findings


def _lost(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many frames the disk has lost, and how many of them the far end does not know of."""
    if not connection.execute("select 1 from sqlite_schema where name = 'lost'").fetchone():
        return 0, 0  # of the first release: the edge brings it over when it starts
    lost, untold = connection.execute(
        "select count(*), count(*) filter (where told = 0) from lost"
    ).fetchone()
    return int(lost), int(untold)


def _repair(directory: Path) -> list[Finding]:
    unfinished = directory / "spool.sqlite.repair"
    if not unfinished.exists():
        return []
    remedy = "make room on the disk, and start the edge: it goes on by itself"
    return [warning(AREA, "frames of a damaged spool are still to be taken over", remedy)]


def _reserve(directory: Path) -> list[Finding]:
    if (directory / "spool.reserve").exists():
        return []
    remedy = "make room on the disk; the edge makes its reserve again when there is"
    return [warning(AREA, "the spool has no reserve: on a full disk receipts could not be noted", remedy)]


def _set_aside(directory: Path) -> list[Finding]:
    from edge_agent.spool import damaged_spools  # noqa: PLC0415 - the settings suffice for what comes before

    return [
        warning(
            AREA,
            f"{path.name} was set aside as damaged",
            "what could be read of it is kept: check the disk, then remove it",
        )
        for path in damaged_spools(directory)
    ]
