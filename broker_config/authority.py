"""A certificate authority of a site's own, and the broker's certificate, made with the openssl command.

For a site that has no authority yet. The authority's key stays on the machine that made it; it is needed again only for
the next certificate.
"""

import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_config.errors import BrokerFailed

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
"""What clients at large take at most; a certificate is made again by the same command."""

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Where they lie, PEM.

    Attributes:
        authority: What every client trusts (``broker.tls.ca_file``).
        certificate: The broker's.
        key: The broker's key; its own and nobody else's.
    """

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path, names: Sequence[str]) -> Certificates:
    """Make the broker's certificate, and an authority first if there is none in ``directory``.

    Args:
        directory: Where they go; made if missing.
        names: Host names and addresses by which clients reach the broker.

    Raises:
        BrokerFailed: If openssl is missing or fails, a name is none, or the directory cannot be written.
    """
    if not names:
        raise BrokerFailed(
            "a certificate without a name serves nobody: name the broker's host as clients know it"
        )
    alternatives = ",".join(_alternative(name) for name in names)
    directory = Path(directory)
    made = Certificates(directory / "ca.crt", directory / "broker.crt", directory / "broker.key")
    authority_key = directory / "ca.key"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not (made.authority.exists() and authority_key.exists()):
            _key_file(authority_key)
            _openssl(
                *("req", "-x509", *_KEY, "-keyout", authority_key, "-out", made.authority),
                *("-days", AUTHORITY_DAYS, "-subj", "/CN=Hemolink site authority"),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            )
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            request, extensions = Path(scratch) / "request", Path(scratch) / "extensions"
            extensions.write_text(
                f"subjectAltName={alternatives}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"
            )
            _key_file(made.key)
            _openssl("req", *_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={names[0]}")
            _openssl(
                *("x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", authority_key),
                *("-CAcreateserial", "-CAserial", Path(scratch) / "serial", "-days", SERVER_DAYS),
                *("-out", made.certificate, "-extfile", extensions),
            )
    except OSError as error:
        raise BrokerFailed(
            f"{directory}: cannot be written ({error.strerror or error}): choose a directory of this user's"
        ) from None
    return made


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        pass
    if not all(part and part.isascii() and part.replace("-", "").isalnum() for part in name.split(".")):
        raise BrokerFailed(
            f"{name!r} is neither a host name nor an address: name the broker as clients know it"
        )
    return f"DNS:{name}"


def _key_file(path: Path) -> None:
    """Make it this user's alone before anything secret is in it."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)


def _openssl(*arguments: object) -> None:
    executable = shutil.which("openssl")
    if executable is None:
        raise BrokerFailed(
            "openssl is not installed: 'apt-get install openssl', or bring certificates of your own"
        )
    done = subprocess.run(  # noqa: S603 - the path was looked up, the arguments are ours
        [executable, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise BrokerFailed(
            f"openssl could not make a certificate: {' / '.join(done.stderr.splitlines()[-2:])}"
        )
