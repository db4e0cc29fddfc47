"""Topic names: what is built can be read back, and nothing else can."""

import pytest

from broker_config.errors import TopicError
from broker_config.topics import Topics

TOPICS = Topics("hemolink")


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
