"""The encoder of a PUBLISH's properties says the same as paho's."""

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker_config.codec import CBOR, JSON
from broker_config.delivery import Publication
from broker_config.packets import PackedProperties, publish_properties

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=80)


@given(
    st.builds(
        Publication,
        st.just("a/b"),
        st.just(b""),
        content_type=st.sampled_from([CBOR, JSON]),
        expiry_s=st.none() | st.integers(0, 2**32 - 1),
        correlation_data=st.none() | st.binary(max_size=200),
        response_topic=st.none() | st.from_regex(r"[a-z/]{1,60}", fullmatch=True),
        user_properties=st.lists(st.tuples(text, text), max_size=4).map(tuple),
    )
)
def test_the_properties_are_read_back_by_paho_as_they_were_meant(publication):
    packed = PackedProperties.of(publication).pack()
    found = Properties(PacketTypes.PUBLISH)
    found.unpack(packed)
    meant = publish_properties(publication, PacketTypes.PUBLISH)
    assert found.json() == meant.json()
    assert len(packed) == len(meant.pack())
