"""What a broker's refusals and a network's faults mean, and what to do about each."""

import socket
import ssl

from broker_config.settings import BrokerSettings

NO_MATCHING_SUBSCRIBERS = 0x10
FAILURE = 0x80
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E
TOPIC_NAME_INVALID = 0x90
PACKET_TOO_LARGE = 0x95
PAYLOAD_FORMAT_INVALID = 0x99

FINAL = frozenset({NOT_AUTHORIZED, TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID})
"""Reason codes of a refused PUBLISH that no repetition will cure (MQTT 5, section 3.4.2.1)."""

# MQTT 5, sections 3.2.2.2 (CONNACK) and 3.14.2.1 (DISCONNECT); paho maps 3.1.1's return codes onto the same numbers.
_REFUSALS = {
    0x81: ("malformed packet", "check that the port is the one that speaks MQTT"),
    0x82: ("protocol error", "report this with the broker's name and version"),
    0x84: ("it does not speak this MQTT version", "set broker.protocol to '3.1.1'"),
    0x85: ("the client id is not valid", "choose another name for this device or worker"),
    0x86: ("bad user name or password", "check broker.username and the content of broker.password_file"),
    0x87: (
        "not authorised",
        "check broker.username and the content of broker.password_file (a wrong password is answered so, too)",
    ),
    0x88: ("the server is unavailable", "look at the broker's log; trying again"),
    0x89: ("the server is busy", "trying again"),
    0x8A: ("this client is banned", "ask whoever runs the broker"),
    0x8B: ("the server is shutting down", "trying again"),
    0x8C: ("bad authentication method", "use a user name and password, or a client certificate"),
    0x8D: ("keep-alive timeout", "the network is slow or cut; trying again"),
    0x8E: (
        "another client connected with the same client id",
        "give every device and worker a name of its own, and stop the second copy of this one",
    ),
    0x93: ("receive maximum exceeded", "report this with the broker's name and version"),
    0x95: (
        "a packet was too large",
        "raise the broker's max_packet_size, or set broker.max_packet_bytes to what it takes",
    ),
    0x97: ("quota exceeded", "look at the broker's limits; trying again"),
    0x98: ("administrative action", "ask whoever runs the broker"),
    0x9C: ("use another server", "set broker.host to the server that the broker's owner names"),
    0x9D: ("the server has moved", "set broker.host to the server that the broker's owner names"),
    0x9F: ("connection rate exceeded", "trying again, more slowly"),
}


def address(broker: BrokerSettings) -> str:
    """Return ``host:port``, for a message."""
    return f"{broker.host}:{broker.port}"


def refusal(broker: BrokerSettings, code: int, name: str) -> str:
    """Return the sentence for a broker that refused or ended a connection.

    Args:
        broker: Which broker.
        code: MQTT 5 reason code.
        name: The reason code's own name, for one that is not in the table.
    """
    cause, remedy = _REFUSALS.get(code, (name.lower(), "look at the broker's log"))
    return f"the broker at {address(broker)} refused: {cause} (0x{code:02X}): {remedy}"


def silence(broker: BrokerSettings) -> str:
    """Return the sentence for a broker that did not answer CONNECT, or closed the connection instead."""
    remedy = (
        "if it is the embedded broker, or another that lacks MQTT 5, set broker.protocol to '3.1.1'; otherwise "
        "check that this port speaks MQTT"
        if broker.protocol == "5"
        else "check that this port speaks MQTT"
    )
    if broker.tls is None:
        remedy += " without TLS"
    return f"{address(broker)} did not answer MQTT {broker.protocol} CONNECT: {remedy}"


def network(broker: BrokerSettings, error: Exception) -> str:  # noqa: PLR0911 - a table, one row a fault
    """Return the sentence for a connection that could not be made."""
    where = address(broker)
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {where} is not trusted ({error.verify_message}): set broker.tls.ca_file to the "
                "site's certificate authority, and broker.host to a name in the certificate"
            )
        case ssl.SSLError():
            reason = error.reason or "handshake failed"
            return (
                f"no TLS connection to {where} ({reason}): check that this port speaks TLS (8883, not 1883), and that "
                "broker.tls.cert_file is one the broker knows"
            )
        case socket.gaierror():
            return f"the name {broker.host!r} cannot be resolved: check broker.host and this machine's name service"
        case ConnectionRefusedError():
            return f"nothing listens on {where}: start the broker, or correct broker.host and broker.port"
        case TimeoutError():
            return (
                f"{where} did not answer within {broker.connect_timeout_s:g} s: check the network, the firewall and "
                "broker.host"
            )
        case OSError():
            return f"no connection to {where} ({error.strerror or error}): check the network and broker.host"
    return f"no connection to {where} ({type(error).__name__}: {error}): trying again"
