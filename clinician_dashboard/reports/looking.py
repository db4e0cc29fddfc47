"""Reading a record that a dashboard may be writing at the same time: nothing is locked, nothing is changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.faults import cause_of, remedy_of
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.settings import Settings


class _Seen:
    """What a `RecordReader` needs of a record, for reading only.

    Args:
        engine: Of the record's database.
        images: The images beside it.
    """

    def __init__(self, engine: Engine, images: ImageStore) -> None:
        self.engine = engine
        self.images = images

    def session(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        with self.session() as session:
            if self.engine.dialect.name == "sqlite":
                session.connection().exec_driver_sql("begin")
            else:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session


@contextmanager
def look(settings: Settings) -> Iterator[RecordReader]:
    """Give a reader of the record that the settings name; it may be in use.

    Raises:
        RecordError: If there is no record, or it cannot be read.
    """
    url = settings.record_url
    if settings.database_url is None:
        database = settings.directory / "record.sqlite"
        if not database.is_file():
            raise RecordError(
                f"{settings.directory} holds no record (record.sqlite is missing): name the record's folder under "
                "'directory' in the settings"
            )
        url = f"sqlite:///{database.absolute().as_uri()}?mode=ro&uri=true"
    engine = create_engine(url, hide_parameters=True)
    try:
        yield RecordReader(cast("Record", _Seen(engine, ImageStore(settings.directory / "images"))))
    except SQLAlchemyError as error:
        raise RecordError(
            f"the record cannot be read ({cause_of(error)}): {remedy_of(error)}. If another release wrote it, start this "
            "release's dashboard once"
        ) from None
    finally:
        engine.dispose()
