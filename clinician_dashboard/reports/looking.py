"""Reading a record that a dashboard may be writing at the same time: nothing is locked, nothing is changed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.engines import address_of, make_engine
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.settings import Settings


class _Seen(Record):
    """A record that is never started: its sessions come from an engine that only reads."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        super().__init__(settings.record_url, settings.directory)
        self._seen = engine

    @property
    def engine(self) -> Engine:
        return self._seen


@contextmanager
def look(settings: Settings) -> Iterator[RecordReader]:
    """Give a reader of the record that the settings name; it may be in use.

    Raises:
        RecordError: If there is no record, or it cannot be read.
    """
    engine = _reading_engine(settings)
    try:
        yield RecordReader(_Seen(settings, engine))
    except SQLAlchemyError as error:
        raise RecordError(
            f"the record cannot be read ({cause_of(error)}): {remedy_of(error)}. If another release wrote it, start this "
            "release's dashboard once"
        ) from None
    finally:
        engine.dispose()


def _reading_engine(settings: Settings) -> Engine:
    address = address_of(settings.record_url)
    if address.get_backend_name() != "sqlite":
        return make_engine(address, password=settings.read_database_password, tls=settings.read_database_tls)
    file = settings.directory / "record.sqlite" if settings.database_url is None else None
    if file is None:
        return make_engine(address)
    if not file.is_file():
        raise RecordError(
            f"{settings.directory} holds no record (record.sqlite is missing): name the record's folder under 'directory' in "
            "the settings"
        )
    return create_engine(f"sqlite:///{file.absolute().as_uri()}?mode=ro&uri=true", hide_parameters=True)
