"""``hemolink dashboard create-admin``, ``token``, ``verify-audit``: what is done at the machine that keeps the record."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clinician_dashboard.access.roles import ROLES, Actor

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from clinician_dashboard.access.access import Access
    from clinician_dashboard.record.beside import Beside
    from clinician_dashboard.record.database import Record
    from clinician_dashboard.settings import Settings

_settings = click.option(
    "--settings", type=click.Path(path_type=Path), required=True, help="YAML settings file of the dashboard."
)
_json = click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")


@click.command("create-admin")
@_settings
@_json
@click.option("--name", help="The login; asked for if not given.")
@click.option("--full-name", help="As it is printed under signatures; asked for if not given.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the password from this file's first line instead of asking; it must be changed at the first sign-in.",
)
def create_admin(
    settings: Path, *, as_json: bool, name: str | None, full_name: str | None, password_file: Path | None
) -> None:
    """Make an admin, who makes the other users on the page 'Users'.

    The dashboard may run meanwhile. An admin manages users and sees no case.
    """
    from clinician_dashboard.access.passwords import check_choice  # noqa: PLC0415 - slow to import
    from clinician_dashboard.access.users import check_full_name, check_name  # noqa: PLC0415

    given = _load(settings)
    with _told():
        login = check_name(name or click.prompt("Name (to sign in with)", err=True))
        printed = check_full_name(full_name or click.prompt("Full name", err=True))
        password = _password(password_file)
        check_choice(password, login, printed)
        with _access(given) as access:
            access.users.create(
                login,
                full_name=printed,
                role="admin",
                by=shell_actor(),
                password=password,
                must_change=password_file is not None,
            )
    if as_json:
        click.echo(json.dumps({"name": login, "role": "admin"}))
    else:
        click.echo(f"{login} may sign in now, as an admin, and make the other users.")


@click.group()
def token() -> None:
    """Make, list and revoke tokens of integrations."""


@token.command("create")
@_settings
@_json
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the token may do.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="When it ends.")
def create_token(settings: Path, name: str, *, as_json: bool, role: str, days: int) -> None:
    """Make the token NAME and print it, once."""
    from clinician_dashboard.access.users import check_role  # noqa: PLC0415

    with _told(), _access(_load(settings)) as access:
        made = access.tokens.create(name, role=check_role(role), by=shell_actor(), days=days)
    if as_json:
        click.echo(json.dumps({"name": name, "role": role, "days": days, "token": made}))
        return
    click.echo("Send it as 'Authorization: Bearer ...'. It is not shown again:", err=True)
    click.echo(made)


@token.command("list")
@_settings
@_json
def list_tokens(settings: Path, *, as_json: bool) -> None:
    """Show every token that was made, without its secret."""
    from broker_config.messages import now  # noqa: PLC0415
    from clinician_dashboard.access.tokens import is_good  # noqa: PLC0415

    with _told(), _access(_load(settings)) as access:
        rows = access.tokens.all()
    if as_json:
        fields = ("id", "name", "role", "created_by", "created_at", "expires_at", "used_at", "revoked_at")
        click.echo(
            json.dumps({"tokens": [{key: getattr(row, key) for key in fields} for row in rows]}, default=str)
        )
        return
    for row in rows:
        state = "good" if is_good(row, now()) else "revoked" if row.revoked_at else "over"
        used = f"{row.used_at:%Y-%m-%d}" if row.used_at else "never"
        ends = f"{row.expires_at:%Y-%m-%d}" if row.expires_at else "never"
        click.echo(f"{row.id:>5}  {row.name:<30} {row.role:<14} {state:<8} ends {ends:<10}  used {used}")


@token.command("revoke")
@_settings
@click.argument("name")
def revoke_token(settings: Path, name: str) -> None:
    """End the token NAME now."""
    from clinician_dashboard.access.errors import NoSuchOne  # noqa: PLC0415

    with _told(), _access(_load(settings)) as access:
        row = next((one for one in access.tokens.all() if one.name == name.strip().lower()), None)
        if row is None:
            raise NoSuchOne(f"There is no token '{name}': 'hemolink dashboard token list' shows them.")
        access.tokens.revoke(row.id, by=shell_actor())
    click.echo(f"{name} is good for nothing any more.")


@click.command("verify-audit")
@_settings
@_json
@click.option(
    "--at", metavar="NUMBER:SHA256", help="A line that this command printed before, to be checked too."
)
def verify_audit(settings: Path, *, as_json: bool, at: str | None) -> None:
    """Look at every row of the audit, which may be in use; exit 1 if one was changed, removed or put in.

    The anchor (audit.head.json beside the record) shows whether the end was cut off. Whoever can write the database and that
    file can forge both; keep the line that this command prints somewhere else, and check with --at.
    """
    from clinician_dashboard.audit.anchor import Anchor  # noqa: PLC0415 - the database library is slow to import
    from clinician_dashboard.audit.verification import verify_audit as look  # noqa: PLC0415

    try:
        kept = Anchor.parse(at) if at else None
    except ValueError as error:
        raise click.ClickException(f"--at: {error}") from None
    given = _load(settings)
    with _told(), _reading(given) as session:
        if as_json:
            verdict = look(session, given.directory, at=kept)
        else:
            with click.progressbar(length=1, label="rows", file=sys.stderr) as bar:

                def progress(done: int, whole: int) -> None:
                    bar.length = max(1, whole)
                    bar.update(done - bar.pos)

                verdict = look(session, given.directory, at=kept, progress=progress)
    if as_json:
        click.echo(json.dumps(verdict.as_json()))
    else:
        for fault in verdict.faults:
            click.echo(f"FAULT  {fault}")
        if verdict.fault_count > len(verdict.faults):
            click.echo(f"       and {verdict.fault_count - len(verdict.faults)} more")
        if verdict.note:
            click.echo(f"note   {verdict.note}")
        click.echo(f"rows   {verdict.rows}, the newest is {verdict.head}")
        click.echo("The audit is whole." if verdict.sound else "The audit is NOT whole.")
    sys.exit(0 if verdict.sound else 1)


def _password(file: Path | None) -> str:
    if file is None:
        entered: str = click.prompt(
            "Password (12 characters or more)", hide_input=True, confirmation_prompt=True, err=True
        )
        return entered
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    return lines[0] if lines else ""


def shell_actor() -> Actor:
    """Return who acts: somebody with a shell on the machine, whom it knows by a login."""
    import getpass  # noqa: PLC0415

    try:
        who = getpass.getuser()
    except (OSError, KeyError):
        who = "unknown"
    return Actor(f"shell:{who}"[:80], "system", via="command")


def _load(path: Path) -> "Settings":
    from broker_config.errors import SettingsError  # noqa: PLC0415
    from broker_config.settings import load_settings  # noqa: PLC0415
    from clinician_dashboard.settings import Settings  # noqa: PLC0415

    try:
        return load_settings(path, Settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _open(settings: "Settings") -> "Iterator[Record | Beside]":
    from clinician_dashboard.record.beside import open_or_join  # noqa: PLC0415

    with open_or_join(
        settings.record_url,
        settings.directory,
        password=settings.read_database_password,
        tls=settings.read_database_tls,
    ) as record:
        yield record


@contextmanager
def _reading(settings: "Settings") -> "Iterator[Session]":
    """Give a session that sees the record as it is at one moment; nothing is made and nothing is changed."""
    from sqlalchemy.orm import Session  # noqa: PLC0415

    from clinician_dashboard.errors import RecordError  # noqa: PLC0415
    from clinician_dashboard.record.engines import address_of, make_engine  # noqa: PLC0415
    from clinician_dashboard.record.upgrade import is_up_to_date  # noqa: PLC0415

    address = address_of(settings.record_url)
    on_a_server = address.get_backend_name() != "sqlite"
    place = address.render_as_string() if on_a_server else str(address.database)
    if not on_a_server and not Path(place).exists():
        raise RecordError(f"there is no record at {place}: name its folder in 'directory'")
    engine = make_engine(
        address, password=settings.read_database_password, tls=settings.read_database_tls, patient=True
    )
    try:
        with engine.connect() as connection:
            if not is_up_to_date(connection, place=place):
                raise RecordError(f"the record in {place} is of an earlier release: start the dashboard once")
        with Session(engine) as session:
            snapshot = (
                "set transaction isolation level repeatable read, read only" if on_a_server else "begin"
            )
            session.connection().exec_driver_sql(snapshot)  # which begins with the first row that is read
            yield session
    finally:
        engine.dispose()


@contextmanager
def _access(settings: "Settings") -> "Iterator[Access]":
    from clinician_dashboard.access.access import Access  # noqa: PLC0415

    with _open(settings) as record:
        yield Access(record, settings.sign_in)


@contextmanager
def _told() -> Iterator[None]:
    """Let an error end the command with its sentence."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from clinician_dashboard.errors import DashboardError  # noqa: PLC0415
    from clinician_dashboard.record.faults import cause_of, remedy_of  # noqa: PLC0415

    try:
        yield
    except DashboardError as error:
        raise click.ClickException(str(error)) from None
    except SQLAlchemyError as error:
        raise click.ClickException(f"the record refuses ({cause_of(error)}): {remedy_of(error)}") from None
