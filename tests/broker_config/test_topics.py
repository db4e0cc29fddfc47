"""Topic names: what is built can be read back, and nothing else can."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_config.errors import TopicError
from broker_config.topics import PRIORITIES, VERBS, TopicName, Topics

LEVEL = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,47}", fullmatch=True).filter(lambda level: level != "fleet")
QUICK = settings(deadline=None)  # a shared machine may pause at any moment
TOPICS = Topics("hemolink")


@given(site=LEVEL, device=LEVEL, priority=st.sampled_from(PRIORITIES), verb=st.sampled_from(VERBS))
@QUICK
def test_every_topic_reads_back(site: str, device: str, priority: str, verb: str) -> None:
    parse = TOPICS.parse
    assert parse(TOPICS.frame(site, device, priority)) == TopicName("frame", site, device, priority)
    assert parse(TOPICS.diagnosis(site, device)) == TopicName("diagnosis", site, device)
    assert parse(TOPICS.receipt(site, device)) == TopicName("receipt", site, device)
    assert parse(TOPICS.rejected(site, device)) == TopicName("rejected", site, device)
    assert parse(TOPICS.state(site, device)) == TopicName("state", site, device)
    assert parse(TOPICS.command(site, device, verb)) == TopicName("command", site, device, verb)
    assert parse(TOPICS.response(site, device, verb)) == TopicName("response", site, device, verb)
    assert parse(TOPICS.worker_state(device)) == TopicName("worker-state", device=device)
    assert parse(TOPICS.fleet_model()) == TopicName("fleet-model")


@given(st.text(max_size=60))
@QUICK
def test_any_other_text_is_a_topic_error_or_hemolinks(text: str) -> None:
    try:
        name = TOPICS.parse(text)
    except TopicError:
        return
    assert text.startswith("hemolink/v1/")
    assert name.kind


@pytest.mark.parametrize(
    "level",
    ["", "fleet", "a/b", "+", "#", "$share", "A", "Müller", "a b", "-a", "a" * 49, "a\n", "\x00", "a."],
)
def test_a_level_that_may_not_stand_in_a_topic_is_refused(level: str) -> None:
    with pytest.raises(TopicError, match=r"cannot stand in a topic|reserved"):
        TOPICS.state(level, "d")
    with pytest.raises(TopicError):
        TOPICS.parse(f"hemolink/v1/{level}/d/state") if level != "fleet" else TOPICS.state("s", level)


@pytest.mark.parametrize(
    "topic", ["other/v1/s/d/state", "hemolink/v2/s/d/state", "hemolink/v1/s/d/frame/soon", "hemolink"]
)
def test_other_roots_versions_and_priorities_are_not_ours(topic: str) -> None:
    with pytest.raises(TopicError, match="is not one of Hemolink's"):
        TOPICS.parse(topic)
