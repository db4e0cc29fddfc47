"""The password and the TLS context of a connection, read anew at each, so that both can be changed while running."""

import ssl

from broker_config.settings import BrokerSettings


class _ClosingSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def password(broker: BrokerSettings) -> str | None:
    """Return the password, read anew so that it can be changed while the daemon runs.

    Raises:
        OSError: If the password file cannot be read.
    """
    if broker.password_file is not None:
        return broker.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    return broker.password.get_secret_value() if broker.password is not None else None


def tls_context(broker: BrokerSettings) -> ssl.SSLContext:
    """Return the TLS context of a broker that has TLS settings.

    Raises:
        OSError: If a file is missing or is not PEM.
    """
    tls = broker.tls
    assert tls is not None  # noqa: S101 - the caller has looked
    for path in (tls.ca_file, tls.cert_file, tls.key_file):
        if path is not None:
            path.open("rb").close()  # so that the error names the file, which ssl's own does not
    context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
    context.sslsocket_class = _ClosingSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        context.load_cert_chain(str(tls.cert_file), str(tls.key_file) if tls.key_file else None)
    return context
