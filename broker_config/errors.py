"""Errors of the contract.

::

    ContractError
    |-- DecodeError            a payload that is not the message its topic promises; keeps the raw bytes
    |   `-- UnknownVersion     the payload's schema version is newer than this release
    |-- TopicError             a topic name that is not Hemolink's, or a level that may not stand in one
    |-- SettingsError          a settings file that cannot be used; names the file and the line
    |-- BrokerFailed           a broker of our own, embedded or Mosquitto, could not be started
    `-- SessionError           the MQTT session could not do what it was asked
        |-- NotConnected       there is no connection to the broker at this moment
        |-- ConnectionRefused  the broker answered CONNECT with a refusal
        |-- PublishRefused     the broker answered PUBLISH with a reason code of failure
        |-- PublishTimeout     no acknowledgement came in time; the message may or may not have arrived
        `-- PayloadTooLarge    larger than the broker's Maximum Packet Size; it was not sent
"""


class ContractError(Exception):
    """Base of every error of the contract."""


class DecodeError(ContractError):
    """Raised when a payload is not the message that its topic promises.

    Attributes:
        payload: The bytes as they came, so that nothing is lost with the error.
        code: A short stable reason, for counters and dead letters, such as ``not_cbor``.
    """

    def __init__(self, message: str, *, payload: bytes, code: str) -> None:
        super().__init__(message)
        self.payload = payload
        self.code = code


class UnknownVersion(DecodeError):
    """Raised when a payload carries a schema version that this release does not know."""


class TopicError(ContractError):
    """Raised when a topic name is not one of Hemolink's, or a level may not stand in a topic."""


class SettingsError(ContractError):
    """Raised when a settings file cannot be used."""


class BrokerFailed(ContractError):
    """Raised when a broker that this process should run could not be started."""


class SessionError(ContractError):
    """Base of the errors of an MQTT session."""


class NotConnected(SessionError):
    """Raised when there is no connection to the broker at this moment."""


class ConnectionRefused(SessionError):
    """Raised when the broker answers CONNECT with a refusal; the reason is in the message."""


class PublishRefused(SessionError):
    """Raised when the broker answers PUBLISH with a reason code of failure.

    Attributes:
        reason_code: The MQTT 5 reason code, for example 0x87 (Not authorized).
    """

    def __init__(self, message: str, *, reason_code: int) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class PublishTimeout(SessionError):
    """Raised when no acknowledgement came in time: the message may or may not have arrived."""


class PayloadTooLarge(SessionError):
    """Raised when a packet would exceed the broker's Maximum Packet Size; nothing was sent."""
