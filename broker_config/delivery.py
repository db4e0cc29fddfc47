"""The delivery table: how each kind of message travels, and who may send and receive it.

One row a kind. The session, the access rules, the AsyncAPI document and the README are all made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from broker_config import desk_messages, device_messages, fleet_messages, messages
from broker_config.codec import CBOR, JSON, encode
from broker_config.topics import TopicKind

Role = Literal["edge", "worker", "dashboard", "operator"]


@dataclass(frozen=True)
class Delivery:
    """How one kind of message travels.

    Attributes:
        kind: The kind of topic.
        message: The message type.
        qos: MQTT quality of service; 1 throughout, because the record removes duplicates by frame id.
        retain: Whether the broker keeps the last one for late subscribers.
        expiry_s: MQTT 5 Message Expiry Interval in seconds, or none.
        publishers: Roles that may publish it.
        subscribers: Roles that may receive it.
        why: The reason behind the row, for the reader.
    """

    kind: TopicKind
    message: type[messages.Message]
    publishers: tuple[Role, ...]
    subscribers: tuple[Role, ...]
    qos: Literal[0, 1] = 1
    retain: bool = False
    expiry_s: int | None = None
    why: str = ""

    @property
    def content_type(self) -> str:
        """The MQTT 5 content type."""
        return CBOR if self.message is messages.Frame else JSON


_ROWS = (
    Delivery(
        "frame",
        messages.Frame,
        ("edge",),
        ("worker", "dashboard"),
        why="never expires: the edge keeps it until a receipt, and sends it again",
    ),
    Delivery(
        "diagnosis",
        messages.Diagnosis,
        ("worker",),
        ("dashboard", "operator"),
        why="the clinician topic; any subscriber may follow it",
    ),
    Delivery(
        "receipt",
        messages.Receipt,
        ("worker", "dashboard"),
        ("edge", "operator"),
        expiry_s=86_400,
        why="a lost receipt costs one resend, nothing more",
    ),
    Delivery(
        "rejected",
        messages.Rejection,
        ("worker", "edge"),
        ("dashboard", "operator"),
        why="a person must see every dead letter",
    ),
    Delivery(
        "case",
        desk_messages.CaseUpdate,
        ("dashboard",),
        ("operator",),
        expiry_s=86_400,
        why="told from an outbox, at most once a second a case; not retained, since a topic holds many cases: whoever comes "
        "late asks the record",
    ),
    Delivery(
        "review",
        desk_messages.Review,
        ("dashboard",),
        ("edge", "operator"),
        why="told from an outbox until acknowledged; the signed version itself stays in the record",
    ),
    Delivery(
        "alert",
        desk_messages.Alert,
        ("dashboard",),
        ("operator",),
        expiry_s=86_400,
        why="a critical finding is told on every channel there is; never retained, since it ends",
    ),
    Delivery(
        "state",
        device_messages.DeviceState,
        ("edge",),
        ("dashboard", "worker", "operator", "edge"),
        retain=True,
        why="retained, so that a late subscriber sees every device at once; birth guards against a late will, and "
        "an edge reads its own to correct one",
    ),
    Delivery(
        "command",
        device_messages.Command,
        ("operator", "dashboard"),
        ("edge",),
        expiry_s=30,
        why="never retained: an order must not be obeyed twice, nor hours later",
    ),
    Delivery(
        "response",
        device_messages.CommandResponse,
        ("edge",),
        ("operator", "dashboard"),
        expiry_s=60,
        why="says what became of the order",
    ),
    Delivery(
        "worker-state",
        fleet_messages.WorkerState,
        ("worker",),
        ("dashboard", "edge", "operator"),
        retain=True,
        why="an edge learns from it that no worker is there",
    ),
    Delivery(
        "fleet-model",
        fleet_messages.FleetModel,
        ("operator",),
        ("worker", "dashboard", "edge"),
        retain=True,
        why="retained, so that a worker that starts later serves the same model",
    ),
    Delivery(
        "fleet-stops",
        fleet_messages.FleetStops,
        ("dashboard",),
        ("worker", "operator"),
        retain=True,
        why="told from an outbox and at each connection; retained, so that a worker that starts later refers what a stopped model "
        "reads; a dashboard of one site may not stop a model for all",
    ),
)

DELIVERY: Mapping[TopicKind, Delivery] = MappingProxyType({row.kind: row for row in _ROWS})
"""The table by kind."""


@dataclass(frozen=True)
class Publication:
    """One message ready to publish.

    Attributes:
        topic: Topic name.
        payload: Encoded message.
        correlation_data: MQTT 5 Correlation Data; a frame's or a request's id.
        response_topic: MQTT 5 Response Topic.
        user_properties: MQTT 5 User Properties, for tracing.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: Literal[0, 1] = 1
    retain: bool = False
    content_type: str = JSON
    expiry_s: int | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


def publication(topic: str, message: messages.Message, *, response_topic: str | None = None) -> Publication:
    """Encode ``message`` for ``topic`` by its row of the delivery table.

    Args:
        topic: Topic name, from `broker_config.topics.Topics`.
        message: Any message of the contract.
        response_topic: Where an answer is expected, for a command.
    """
    row = next(row for row in _ROWS if row.message is type(message))
    identity = getattr(message, "frame_id", None) or getattr(message, "request_id", None)
    return Publication(
        topic=topic,
        payload=encode(message),
        qos=row.qos,
        retain=row.retain,
        content_type=row.content_type,
        expiry_s=row.expiry_s,
        correlation_data=identity.encode() if identity else None,
        response_topic=response_topic,
        user_properties=(("schema", f"{row.kind}/{message.schema_version}"),),
    )
