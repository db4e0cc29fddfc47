"""Whether the dashboard's record can be written, and is whole."""

from pathlib import Path

from clinician_dashboard.settings import Settings
from hemolink.checks.machine import check_disk, check_writable
from hemolink.checks.sqlite import integrity_fault
from hemolink.finding import Finding, fault, fine

AREA = "record"


def check_record(settings: Settings) -> list[Finding]:
    """Check the record's folder, its disk and its database."""
    directory = settings.directory
    unwritable = check_writable(directory, area=AREA)
    findings = [unwritable] if unwritable else []
    findings.append(check_disk(directory, area=AREA))
    if settings.database_url is None:
        findings.append(_check_file(directory / "record.sqlite"))
    else:
        findings.append(_check_server(settings))
    return findings


def _check_file(path: Path) -> Finding:
    if not path.exists():
        return fine(AREA, f"none at {path} yet: the dashboard makes it when it starts")
    if reason := integrity_fault(path):
        return fault(
            AREA,
            f"{path} is damaged ({reason})",
            "stop the dashboard and bring the last backup back with 'hemolink dashboard restore'; never delete the images beside it",
        )
    return fine(AREA, f"{path} is whole")


def _check_server(settings: Settings) -> Finding:
    from sqlalchemy import text  # noqa: PLC0415 - the dashboard's extra is optional
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from clinician_dashboard.errors import RecordError  # noqa: PLC0415
    from clinician_dashboard.record.engines import address_of, make_engine  # noqa: PLC0415
    from clinician_dashboard.record.faults import cause_of, remedy_of  # noqa: PLC0415

    try:
        where = address_of(settings.record_url)
        engine = make_engine(where, password=settings.read_database_password, tls=settings.read_database_tls)
        try:
            with engine.connect() as connection:
                connection.execute(text("select 1"))
        finally:
            engine.dispose()
    except RecordError as error:
        return fault(AREA, str(error), "check database_url, and what the dashboard's extras install")
    except SQLAlchemyError as error:
        return fault(AREA, f"the database does not answer ({cause_of(error)})", remedy_of(error))
    return fine(AREA, f"{where.render_as_string()} answers")
