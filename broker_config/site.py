"""The files of one site's Mosquitto: configuration, rules, hashed passwords, and each member's secret.

Made again, the files keep the passwords that exist and add those that are missing, so adding a device disturbs nobody.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from broker_config.errors import BrokerFailed
from broker_config.mosquitto import MAX_PACKET_BYTES, ServerTls, render_configuration, render_passwords
from broker_config.process import write_durably
from broker_config.roles import Member, render_acl

_SECRET_BYTES = 24


@dataclass(frozen=True)
class SiteFiles:
    """Where the files of a site lie.

    Attributes:
        configuration: For ``mosquitto -c``.
        acl: The access rules.
        passwords: The hashed passwords.
        secrets: Each member's password in clear, by user name; hand each to its machine and delete it here.
    """

    configuration: Path
    acl: Path
    passwords: Path
    secrets: dict[str, Path]


def write_site(
    directory: Path,
    members: Sequence[Member],
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    tls: ServerTls | None = None,
    root: str = "hemolink",
    max_packet_bytes: int = MAX_PACKET_BYTES,
    allow_plain: bool = False,
    installed_at: Path | None = None,
    data_at: Path | None = None,
    environment_files: bool = False,
    user: str | None = None,
) -> SiteFiles:
    """Write the files of one site's broker into ``directory``.

    Args:
        directory: Where to write; made if missing.
        members: Every user of the broker.
        host: Address the broker listens on.
        port: Port it listens on; 8883 by custom with TLS.
        tls: The broker's certificates; without, it must listen on the loopback unless ``allow_plain``.
        root: First level of every topic.
        max_packet_bytes: Largest packet it takes.
        allow_plain: Permit images and passwords to travel unencrypted over a network.
        installed_at: Where the files will lie on the broker's machine, if not in ``directory``.
        data_at: Where the broker will keep its database, if not in the folder ``data`` beside the other files.
        environment_files: Also write each member's user name and password as ``secrets/NAME.env``, for those who
            start daemons in containers.
        user: Account that Mosquitto runs as, if not its own default.

    Raises:
        BrokerFailed: If it would be open to eavesdroppers, has no members, or cannot be written.
        TopicError: If two members have one user name.
    """
    if not members:
        raise BrokerFailed(
            "a broker without members serves nobody: name at least one edge, worker or dashboard"
        )
    if tls is None and not allow_plain and host not in ("127.0.0.1", "::1", "localhost"):
        raise BrokerFailed(
            f"a broker on {host} without TLS would send images and passwords in clear: give it certificates, let it "
            "listen on 127.0.0.1, or allow it in so many words (--plain)"
        )
    directory = Path(directory).absolute()
    lies_in = installed_at or directory
    acl = render_acl(members, root=root)
    try:
        (directory / "data").mkdir(parents=True, exist_ok=True)
        keep = directory / "secrets"
        keep.mkdir(mode=0o700, exist_ok=True)
        secret_files = {member.username: keep / f"{member.username}.password" for member in members}
        passwords = {name: _secret(path) for name, path in secret_files.items()}
        if environment_files:
            for name, path in secret_files.items():
                _private(
                    path.with_suffix(".env"),
                    f"HEMOLINK_BROKER__USERNAME={name}\nHEMOLINK_BROKER__PASSWORD={passwords[name]}\n",
                )
        files = SiteFiles(
            directory / "mosquitto.conf", directory / "acl", directory / "passwords", secret_files
        )
        write_durably(files.acl, acl.encode())
        write_durably(files.passwords, render_passwords(passwords).encode())
        files.passwords.chmod(0o640)
        configuration = render_configuration(
            directory=data_at or lies_in / "data",
            host=host,
            port=port,
            password_file=lies_in / "passwords",
            acl_file=lies_in / "acl",
            tls=_installed(tls, directory, lies_in) if tls is not None else None,
            max_packet_bytes=max_packet_bytes,
            user=user,
        )
        write_durably(files.configuration, configuration.encode())
    except OSError as error:
        raise BrokerFailed(
            f"{directory}: cannot be written ({error.strerror or error}): choose a directory of this user's"
        ) from None
    return files


def _installed(tls: ServerTls, directory: Path, lies_in: Path) -> ServerTls:
    """Return the certificates as the broker will find them: those in the site's directory move with it."""

    def moved(path: Path) -> Path:
        path = Path(path).absolute()
        return lies_in / path.relative_to(directory) if path.is_relative_to(directory) else path

    return replace(
        tls, ca_file=moved(tls.ca_file), cert_file=moved(tls.cert_file), key_file=moved(tls.key_file)
    )


def _secret(path: Path) -> str:
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    _private(path, secret + "\n")
    return secret


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
