"""What holds for every message and every topic: drawn from the models, quick as a rule and long under ``slow``."""

import json
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker_config.cbor_profile import MAX_DEPTH, MAX_ITEMS
from broker_config.codec import MAX_JSON_BYTES, decode, encode
from broker_config.device_messages import Command
from broker_config.errors import DecodeError, TopicError, UnknownVersion
from broker_config.messages import SCHEMA_VERSION, Frame, Message
from broker_config.roles import ROLES, Member, rules
from broker_config.topics import TopicName, Topics
from tests.broker_config.contract_strategies import (
    EXAMPLES,
    LEVEL,
    MESSAGE_TYPES,
    PRIORITY,
    VERB,
    any_message,
    messages,
)
from tests.broker_config.test_codec import frame, one_of_each

KINDS = pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=lambda one: one.kind)
COUNTS = pytest.mark.parametrize("examples", EXAMPLES)


def tries(examples: int) -> settings:
    # A shared machine may pause at any moment, and the first example of a large model is slow to draw.
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def read_or_refuse(payload: bytes, kind: type[Message]) -> None:
    """Decode; the only other way out is a DecodeError that keeps the payload."""
    try:
        decode(payload, kind)
    except DecodeError as error:
        kept, sentence = error.payload, str(error)
    else:
        return
    assert kept == payload
    assert len(sentence) < 600
    assert sentence.isprintable()


def fields_of(payload: bytes, kind: type[Message]) -> dict[str, Any]:
    return cbor2.loads(payload) if kind is Frame else json.loads(payload)


def payload_of(fields: dict[str, Any], kind: type[Message]) -> bytes:
    return cbor2.dumps(fields) if kind is Frame else json.dumps(fields).encode()


@KINDS
@COUNTS
def test_every_message_survives_the_wire(kind: type[Message], examples: int) -> None:
    @tries(examples)
    @given(messages(kind))
    def holds(message: Message) -> None:
        assert decode(encode(message), kind) == message

    holds()


@KINDS
@COUNTS
def test_any_bytes_are_read_or_refused(kind: type[Message], examples: int) -> None:
    @tries(examples)
    @given(st.binary(max_size=400))
    def holds(payload: bytes) -> None:
        read_or_refuse(payload, kind)

    holds()


@COUNTS
def test_a_message_of_another_kind_or_cut_flipped_and_spliced_is_read_or_refused(examples: int) -> None:
    @tries(examples * 4)
    @given(any_message(), any_message(), st.sampled_from(MESSAGE_TYPES), st.data())
    def holds(first: Message, second: Message, kind: type[Message], data: st.DataObject) -> None:
        one, other = encode(first), encode(second)
        read_or_refuse(one, kind)
        kind = data.draw(st.sampled_from([type(first), kind]))
        cut = data.draw(st.integers(0, len(one) - 1))
        read_or_refuse(one[:cut], kind)
        read_or_refuse(one[:cut] + other[data.draw(st.integers(0, len(other))) :], kind)
        read_or_refuse(one[:cut] + data.draw(st.binary(max_size=9)) + one[cut:], kind)
        flipped = bytearray(one)
        flipped[cut] ^= 1 << data.draw(st.integers(0, 7))
        read_or_refuse(bytes(flipped), kind)
        read_or_refuse(one + one, kind)

    holds()


@KINDS
@COUNTS
def test_a_newer_peers_fields_are_ignored_and_its_version_is_refused(
    kind: type[Message], examples: int
) -> None:
    @tries(examples // 2)
    @given(
        messages(kind),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
        st.none() | st.integers(0, 9) | st.lists(st.text(max_size=3), max_size=3),
        st.integers(SCHEMA_VERSION + 1, 2**40),
    )
    def holds(message: Message, name: str, value: object, version: int) -> None:
        assume(name not in kind.model_fields)
        fields = fields_of(encode(message), kind)
        assert decode(payload_of({**fields, name: value}, kind), kind) == message
        with pytest.raises(UnknownVersion, match="upgrade the receiver first"):
            decode(payload_of({**fields, "schema_version": version}, kind), kind)

    holds()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@KINDS
@COUNTS
def test_a_message_with_any_one_field_wrong_is_read_or_refused(kind: type[Message], examples: int) -> None:
    valid = fields_of(encode(next(one for one in one_of_each() if type(one) is kind)), kind)
    values = ANYTHING | st.binary() if kind is Frame else ANYTHING

    @tries(examples)
    @given(st.sampled_from(sorted(kind.model_fields)), values)
    def holds(name: str, value: object) -> None:
        read_or_refuse(payload_of({**valid, name: value}, kind), kind)

    holds()


@COUNTS
def test_bombs_of_any_depth_and_size_are_refused_at_once(examples: int) -> None:
    text = encode(next(one for one in one_of_each() if type(one) is Command)).decode()

    @tries(examples)
    @given(
        st.integers(MAX_DEPTH, 20_000),
        st.integers(MAX_ITEMS, 30_000),
        st.sampled_from([b"\x81", b"\xa1\x61a"]),
    )
    def holds(depth: int, count: int, opening: bytes) -> None:
        for payload in (
            b"\xa1\x61a" + opening * depth + b"\x00",
            b"\xa1\x61a\x9a" + count.to_bytes(4, "big") + b"\x00" * count,
            encode(frame())[:-1] + opening * depth,
        ):
            with pytest.raises(DecodeError):
                decode(payload, Frame)
        nested = text[:-1] + ',"settings":' + '{"a":' * depth + "1" + "}" * depth + "}"
        with pytest.raises(DecodeError):
            decode(nested.encode(), Command)
        with pytest.raises(DecodeError):
            decode(text.encode() + b" " * MAX_JSON_BYTES, Command)

    holds()


def test_a_frame_as_deep_as_the_profile_allows_is_read() -> None:
    fields = cbor2.loads(encode(frame()))
    inner: object = 1
    for _ in range(MAX_DEPTH - 1):
        inner = [inner]
    assert isinstance(decode(cbor2.dumps({**fields, "later": inner}), Frame), Frame)
    with pytest.raises(DecodeError, match="deep"):
        decode(cbor2.dumps({**fields, "later": [inner]}), Frame)


# Topics


def every_topic(topics: Topics, site: str, device: str, *, priority: str, verb: str) -> dict[str, TopicName]:
    return {
        topics.frame(site, device, priority): TopicName("frame", site, device, priority),
        topics.diagnosis(site, device): TopicName("diagnosis", site, device),
        topics.receipt(site, device): TopicName("receipt", site, device),
        topics.rejected(site, device): TopicName("rejected", site, device),
        topics.review(site, device): TopicName("review", site, device),
        topics.alert(site, device): TopicName("alert", site, device),
        topics.state(site, device): TopicName("state", site, device),
        topics.command(site, device, verb): TopicName("command", site, device, verb),
        topics.response(site, device, verb): TopicName("response", site, device, verb),
        topics.worker_state(device): TopicName("worker-state", device=device),
        topics.fleet_model(): TopicName("fleet-model"),
        topics.fleet_stops(): TopicName("fleet-stops"),
    }


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a broker would route ``topic`` to ``topic_filter`` (MQTT 5, section 4.7); ours hold no ``#``."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(w in ("+", one) for w, one in zip(wanted, levels, strict=True))


@COUNTS
def test_every_topic_reads_back_and_belongs_to_one_root_alone(examples: int) -> None:
    @tries(examples * 2)
    @given(LEVEL, LEVEL, LEVEL, LEVEL, PRIORITY, VERB)
    def holds(root: str, other: str, site: str, device: str, priority: str, verb: str) -> None:
        assume(root != other)
        topics, stranger = Topics(root), Topics(other)
        filters = [
            stranger.all_frames(),
            stranger.all_worker_states(),
            stranger.commands_to(site, device),
            *(
                stranger.all_of(kind)
                for kind in ("diagnosis", "receipt", "rejected", "review", "alert", "state")
            ),
        ]
        for topic, name in every_topic(topics, site, device, priority=priority, verb=verb).items():
            assert topics.parse(topic) == name
            with pytest.raises(TopicError):
                stranger.parse(topic)
            assert not any(matches(one, topic) for one in filters)

    holds()


@COUNTS
def test_no_rule_of_one_site_or_device_reaches_another(examples: int) -> None:
    @tries(examples * 2)
    @given(LEVEL, LEVEL, LEVEL, LEVEL, PRIORITY, VERB, st.sampled_from(ROLES))
    def holds(here: str, there: str, mine: str, yours: str, priority: str, verb: str, role: Any) -> None:
        assume(here != there)
        assume(mine != yours)
        site = "" if role == "worker" else here
        member = Member(role, mine, site)
        elsewhere = every_topic(Topics(), there, yours, priority=priority, verb=verb)
        beside = every_topic(Topics(), here, yours, priority=priority, verb=verb)
        for rule in rules(member):
            for topic, name in elsewhere.items():
                if matches(rule.topic_filter, topic):
                    assert role == "worker" or name.kind in ("worker-state", "fleet-model", "fleet-stops")
                    assert name.kind != "fleet-stops" or rule.access == "read"
            for topic, name in beside.items():
                if role == "edge" and matches(rule.topic_filter, topic):
                    assert name.kind in ("worker-state", "fleet-model")
                    assert rule.access == "read"
            assert matches(rule.topic_filter, rule.topic_filter)
            assert "#" not in rule.topic_filter

    holds()


@COUNTS
def test_any_other_text_is_a_topic_error_or_hemolinks(examples: int) -> None:
    @tries(examples * 4)
    @given(
        st.text(max_size=60)
        | st.lists(LEVEL | st.sampled_from(["hemolink", "v1", "fleet"]), max_size=8).map("/".join)
    )
    def holds(text: str) -> None:
        try:
            name = Topics().parse(text)
        except TopicError:
            return
        assert text.startswith("hemolink/v1/")
        assert name.kind

    holds()
