"""The microscope's host hears that a case with its frames was signed: in its log, its state, and its metrics."""

import logging

from broker_config.delivery import publication
from broker_config.desk_messages import Review
from broker_config.messages import now
from broker_config.settings import BrokerSettings
from tests.edge_agent.conftest import DEVICE, SITE, FarEnd, eventually


def test_a_signed_case_is_logged_counted_once_and_told_in_the_state(
    embedded_broker, folder, edge_settings, running, caplog
):
    caplog.set_level(logging.INFO, "edge_agent.mailroom")
    settings = edge_settings(embedded_broker.port, {"kind": "folder", "path": str(folder(0))})

    def review(case="HL-7", *, version=1, device=DEVICE):
        return Review(
            case=case,
            site=SITE,
            device=device,
            version=version,
            status="final" if version == 1 else "amended",
            conclusion="AML",
            content_sha256="0" * 64,
            signed_at=now(),
            by="desk",
        )

    with (
        FarEnd(BrokerSettings(port=embedded_broker.port, protocol="3.1.1")) as far,
        running(settings) as agent,
    ):
        eventually(lambda: agent.status()["connected"])
        topic = far.topics.review(SITE, DEVICE)
        # Twice, as after a crash; amended; a second case; and one that names another device.
        for one in (review(), review(), review(version=2), review("HL-8"), review("HL-9", device="other")):
            far.session.publish(publication(topic, one))
        status = eventually(lambda: (s := agent.status())["last_signed"] == "HL-8" and s)
        assert status["signed"] == 2
        eventually(lambda: agent._counters.messages.labels("review", "wrong_topic")._value.get() == 1)
        assert agent._counters.messages.labels("review", "repeated")._value.get() == 1
    told = [record.getMessage() for record in caplog.records if "is signed" in record.getMessage()]
    assert told == [
        "case HL-7 is signed: version 1, final",
        "case HL-7 is signed: version 2, amended",
        "case HL-8 is signed: version 1, final",
    ]
