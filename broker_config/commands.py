"""The commands of ``hemolink broker``."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from broker_config import schema_documents
from broker_config.authority import make_certificates
from broker_config.embedded import EmbeddedBroker
from broker_config.errors import BrokerFailed, ContractError
from broker_config.logs import configure
from broker_config.mosquitto import MAX_PACKET_BYTES, MosquittoProcess, ServerTls
from broker_config.process import Shutdown
from broker_config.roles import Member, parse_member, render_acl, rules
from broker_config.site import write_site

F = TypeVar("F", bound=Callable[..., Any])


def _member_options(command: F) -> F:
    for option in (
        click.option("--root", default="hemolink", show_default=True, help="First level of every topic."),
        click.option("--operator", "operators", multiple=True, metavar="[SITE/]NAME", help="An operator."),
        click.option("--dashboard", "dashboards", multiple=True, metavar="[SITE/]NAME", help="A dashboard."),
        click.option("--worker", "workers", multiple=True, metavar="NAME", help="A worker."),
        click.option("--edge", "edges", multiple=True, metavar="SITE/DEVICE", help="A microscope's host."),
    ):
        command = option(command)
    return command


def _members(
    edges: Iterable[str], workers: Iterable[str], dashboards: Iterable[str], operators: Iterable[str]
) -> list[Member]:
    return [
        *(parse_member("edge", text) for text in edges),
        *(parse_member("worker", text) for text in workers),
        *(parse_member("dashboard", text) for text in dashboards),
        *(parse_member("operator", text) for text in operators),
    ]


class _Group(click.Group):
    """Turns the contract's errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ContractError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
def broker() -> None:
    """Run a broker, and make the files of one."""


@broker.command()
@click.option("--embedded", "kind", flag_value="embedded", default=True, help="In this process (MQTT 3.1.1).")
@click.option(
    "--mosquitto", "kind", flag_value="mosquitto", help="The system's Mosquitto (MQTT 5 and 3.1.1)."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=1883, show_default=True, type=click.IntRange(0, 65535), help="0: any free port."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/mosquitto"),
    show_default=True,
    help="Where Mosquitto keeps its files.",
)
def run(kind: str, host: str, port: int, directory: Path) -> None:
    """Run a broker on this machine until Ctrl-C, without users or rules, for trying things out."""
    configure()
    shutdown = Shutdown()
    shutdown.install()
    server: EmbeddedBroker | MosquittoProcess = (
        MosquittoProcess(directory, host=host, port=port)
        if kind == "mosquitto"
        else EmbeddedBroker(host=host, port=port)
    )
    with server:
        versions = "MQTT 5 and 3.1.1" if kind == "mosquitto" else "MQTT 3.1.1 only, one worker"
        click.echo(f"{kind} broker on {server.host}:{server.port} ({versions}); Ctrl-C ends it")
        while not shutdown.requested.wait(0.5):
            if not server.running:
                raise BrokerFailed(f"the {kind} broker ended by itself: see its log")


@broker.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", "names", multiple=True, required=True, help="Host name or address of the broker.")
def certificates(directory: Path, names: tuple[str, ...]) -> None:
    """Make the broker's TLS certificate in DIRECTORY, and first an authority of the site's own if there is none."""
    made = make_certificates(directory, names)
    click.echo(f"the broker's certificate: {made.certificate}, its key: {made.key}")
    click.echo(f"for every client, as broker.tls.ca_file: {made.authority}")
    click.echo(f"keep {directory / 'ca.key'} from everyone: whoever has it can be your broker")


@broker.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@_member_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the broker listens on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; 8883 with TLS, 1883 without.")
@click.option(
    "--tls-ca", type=click.Path(path_type=Path), help="Authority of the clients' certificates, PEM."
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="The broker's certificate, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The key of the certificate, PEM.")
@click.option("--require-certificate", is_flag=True, help="Clients must show a certificate too.")
@click.option("--plain", is_flag=True, help="Allow images and passwords in clear on a network.")
@click.option(
    "--installed-at",
    type=click.Path(path_type=Path),
    help="Where the files will lie on the broker, such as /mosquitto/config in a container.",
)
@click.option(
    "--data-at",
    type=click.Path(path_type=Path),
    help="Where the broker will keep its database, such as /mosquitto/data; 'data' beside the files unless given.",
)
@click.option(
    "--env-files",
    is_flag=True,
    help="Also write each member's user name and password as secrets/NAME.env (compose: env_file).",
)
@click.option(
    "--max-packet-bytes",
    default=MAX_PACKET_BYTES,
    show_default=True,
    type=click.IntRange(65_536, 268_435_455),
)
def config(
    *,
    directory: Path,
    edges: tuple[str, ...],
    workers: tuple[str, ...],
    dashboards: tuple[str, ...],
    operators: tuple[str, ...],
    root: str,
    host: str,
    port: int | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    require_certificate: bool,
    plain: bool,
    installed_at: Path | None,
    data_at: Path | None,
    env_files: bool,
    max_packet_bytes: int,
) -> None:
    """Write the files of one site's Mosquitto into DIRECTORY: configuration, rules, users, one secret each."""
    if any((tls_ca, tls_cert, tls_key)) and not (tls_ca and tls_cert and tls_key):
        raise BrokerFailed("TLS needs all of --tls-ca, --tls-cert and --tls-key")
    tls = (
        ServerTls(tls_ca, tls_cert, tls_key, require_certificate=require_certificate)
        if tls_ca and tls_cert and tls_key
        else None
    )
    files = write_site(
        directory,
        _members(edges, workers, dashboards, operators),
        host=host,
        port=port or (8883 if tls else 1883),
        tls=tls,
        root=root,
        max_packet_bytes=max_packet_bytes,
        allow_plain=plain,
        installed_at=installed_at,
        data_at=data_at,
        environment_files=env_files,
    )
    click.echo(f"mosquitto -c {files.configuration}")
    for name, path in files.secrets.items():
        click.echo(f"  {name:<32} password in {path}")
    click.echo(
        "Hand each password to its machine (broker.username, broker.password_file), then delete it here."
    )


@broker.command()
@_member_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object: rules by user name.")
def acl(
    *,
    edges: tuple[str, ...],
    workers: tuple[str, ...],
    dashboards: tuple[str, ...],
    operators: tuple[str, ...],
    root: str,
    as_json: bool,
) -> None:
    """Print the access rules of the named members, in Mosquitto's form."""
    members = _members(edges, workers, dashboards, operators)
    if as_json:
        table = {
            member.username: [
                {"access": rule.access, "topic": rule.topic_filter} for rule in rules(member, root=root)
            ]
            for member in members
        }
        click.echo(json.dumps(table))
    else:
        click.echo(render_acl(members, root=root), nl=False)


@broker.command()
@click.option("--check/--write", "check", default=True, help="Fail when stale, or make them anew.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where; docs/contract of a checkout unless given.",
)
def schemas(*, check: bool, directory: Path | None) -> None:
    """Check or write the JSON Schemas, the AsyncAPI document and the delivery table."""
    where = directory or schema_documents.DIRECTORY
    if not check:
        schema_documents.write(where)
        click.echo(f"written to {where}")
        return
    names = schema_documents.stale(where)
    if names:
        raise BrokerFailed(f"stale in {where}: {', '.join(names)}: run 'hemolink broker schemas --write'")
    click.echo(f"{where} is up to date")
