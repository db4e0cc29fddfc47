"""Connections to the record's database: SQLite in its folder, or a PostgreSQL server.

On PostgreSQL one connection holds a lock of the server for as long as it lives, and every write goes through that very
connection. So there is one writer, whichever machine it runs on, and a writer that lost its connection has lost the lock
with it: it takes the lock again before it can write again.
"""

import ssl
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DisconnectionError, InterfaceError

from clinician_dashboard.errors import RecordError, RecordInUse
from clinician_dashboard.record.faults import GONE, state_of

BUSY_TIMEOUT_MS = 2000
ANSWER_WITHIN_S = 60.0
"""A server that is silent for so long, while it is connected to or asked something, is taken for lost."""
DRIVER = "postgresql+pg8000"
LOCK = 0x48656D6F  # with the schema's hash the key of the writer's lock
# A server keeps what a lost connection held until it notices; these let it notice within half a minute.
_NOTICED = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}

Password = Callable[[], str | None]
Tls = Callable[[], ssl.SSLContext | None]


def address_of(url: str) -> URL:
    """Return a database's address with the driver that this release uses.

    Raises:
        RecordError: If it is no address of SQLite or PostgreSQL.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise RecordError(
            "database_url is no address of a database: write postgresql://user@host/database"
        ) from None
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername=DRIVER)
    if address.drivername not in (DRIVER, "sqlite", "sqlite+pysqlite"):
        raise RecordError(
            f"a record cannot live in {address.drivername}: SQLite and PostgreSQL are known; write "
            "postgresql://user@host/database, or leave database_url out"
        )
    return address


def make_engine(
    address: URL,
    *,
    password: Password = lambda: None,
    tls: Tls = lambda: None,
    writing: bool = False,
    patient: bool = False,
) -> Engine:
    """Return an engine for the record; nothing is connected yet.

    Args:
        address: From `address_of`.
        password: Asked at each connection.
        tls: Likewise; without a context the connection is encrypted if the server offers it, and nobody is verified.
        writing: On PostgreSQL: one connection only, which takes the writer's lock.
        patient: On PostgreSQL: wait for an answer however long it takes.

    Raises:
        RecordError: If the driver is not installed.
    """
    if address.get_backend_name() == "sqlite":
        engine = create_engine(address, hide_parameters=True)  # a log holds no patient's data
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    pool = {"pool_size": 1, "max_overflow": 0} if writing else {}
    arguments = {
        "application_name": "hemolink-writer" if writing else "hemolink",
        "timeout": None if patient else ANSWER_WITHIN_S,
    }
    try:
        engine = create_engine(address, hide_parameters=True, connect_args=arguments, **pool)
    except ModuleNotFoundError as error:
        raise RecordError(
            f"a record in PostgreSQL needs {error.name}: pip install 'hemolink[dashboard-postgresql]'"
        ) from None

    def enter(dialect: Any, _record: object, _positional: object, parameters: dict[str, Any]) -> Any:
        return _connect(dialect, parameters, password=password, tls=tls)

    def ping(connection: Any, _record: object, _proxy: object) -> None:
        """What a crash, a restart or a firewall took away is noticed before anything is asked of it."""
        try:
            engine.dialect.do_ping(connection)
        except (OSError, engine.dialect.loaded_dbapi.Error) as error:
            raise DisconnectionError(str(error)) from None

    event.listen(engine, "do_connect", enter)
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "checkout", ping)
    event.listen(engine, "handle_error", _notice_a_loss)
    if writing:
        event.listen(engine, "connect", _take_lock)
    return engine


def _connect(dialect: Any, parameters: dict[str, Any], *, password: Password, tls: Tls) -> Any:
    """Connect with what the files say now; what the driver lets out as something else becomes an error of the database."""
    refuse = dialect.loaded_dbapi.InterfaceError
    try:
        parameters["password"] = password()
        parameters["ssl_context"] = tls()
    except (OSError, UnicodeDecodeError) as error:
        named = getattr(error, "filename", None) or "database_password_file"
        why = getattr(error, "strerror", None) or type(error).__name__
        raise refuse(f"{named} cannot be read ({why})") from None
    try:
        return dialect.connect(**parameters)
    except OSError as error:
        raise refuse(f"the server does not answer ({error})") from None
    except AttributeError:
        if parameters["password"] is not None:
            raise
        raise refuse(
            "it asks for a password, and there is none: name database_password_file, or set HEMOLINK_DATABASE_PASSWORD"
        ) from None


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. FULL: a commit survives a power cut, since a receipt follows it.
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute(f"pragma busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def _prepare_postgresql(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("show synchronous_commit")
    if cursor.fetchone()[0] == "off":  # a commit survives a power cut, since a receipt follows it
        cursor.execute("set synchronous_commit = on")
    cursor.execute("set timezone = 'UTC'")
    connection.commit()
    cursor.close()


def _take_lock(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for name, value in _NOTICED.items():
        cursor.execute(f"set {name} = {value}")
    cursor.execute(f"select pg_try_advisory_lock({LOCK}, hashtext(current_schema()))")
    (taken,) = cursor.fetchone()
    connection.commit()
    cursor.close()
    if not taken:
        connection.close()
        raise RecordInUse(
            "the database is in use by another running dashboard, or by this one's own lost connection, which the server lets "
            "go of within half a minute: one writer at a time; end the other, or name another database in database_url"
        )


def _notice_a_loss(context: ExceptionContext) -> None:
    original = context.original_exception
    if state_of(original) in GONE:
        context.is_disconnect = True
    elif isinstance(original, OSError):
        context.is_disconnect = True
        raise InterfaceError(
            None, None, RuntimeError(f"the server does not answer ({original})"), connection_invalidated=True
        ) from None
