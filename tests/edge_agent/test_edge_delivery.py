"""The rules of delivery, over a real Mosquitto: nothing is lost, nothing is poured away, and a person is told."""

import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

from broker_config.codec import decode
from broker_config.delivery import publication
from broker_config.device_messages import DeviceState
from broker_config.messages import now
from broker_config.mosquitto import MosquittoProcess, render_passwords
from broker_config.roles import Member, render_acl
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from tests.edge_agent.conftest import DEVICE, SITE, FarEnd, eventually

pytestmark = pytest.mark.mosquitto


def broker_of(broker, protocol="5"):
    return BrokerSettings(port=broker.port, protocol=protocol, reconnect_max_s=0.5)


@pytest.fixture
def over_mosquitto(mosquitto_broker, folder, edge_settings):
    """Makes settings of an edge that has so many pictures to deliver."""

    def make(pictures, **more):
        camera = {"kind": "folder", "path": str(folder(pictures)), "settle_s": 0}
        return edge_settings(mosquitto_broker.port, camera, protocol="5", **more)

    return make


def all_taken(agent):
    return eventually(lambda: agent.status()["finished"])


def settled(agent, count):
    return eventually(lambda: (s := agent.status())["settled"] == count and not s["spooled"] and s)


def test_without_a_worker_frames_are_held_though_the_record_subscribes_and_flow_when_one_comes(
    mosquitto_broker, over_mosquitto, running
):
    settings = over_mosquitto(
        40, start_paused=True, delivery={"resend_after_s": 60, "resend_max_s": 60, "window": 20}
    )
    with FarEnd(broker_of(mosquitto_broker), answers=()) as far, running(settings) as agent:
        eventually(lambda: agent.status()["connected"])
        far.tell_worker("online", birth=1)
        far.tell_worker("offline", birth=1)
        eventually(lambda: "no worker is online" in agent.status()["alarm"])
        agent._capture.resume()
        all_taken(agent)
        eventually(lambda: far.heard.total() >= 2)  # single frames go out to see
        assert far.heard.total() < 10  # and not the whole window
        assert agent.status()["spooled"] == 40
        far.answers = ("diagnosed", "recorded")
        far.tell_worker("online", birth=2)
        settled(agent, 40)
        eventually(lambda: agent.status()["alarm"] == "")


def test_a_late_will_of_an_earlier_worker_holds_nothing(mosquitto_broker, over_mosquitto, running):
    with FarEnd(broker_of(mosquitto_broker)) as far, running(over_mosquitto(5, start_paused=True)) as agent:
        eventually(lambda: agent.status()["connected"])
        far.tell_worker("online", birth=7)
        far.tell_worker("offline", birth=6)
        agent._capture.resume()
        assert "no worker" not in settled(agent, 5)["alarm"]


def test_a_stale_online_does_not_fool_the_edge_and_probes_find_who_never_told_a_state(
    mosquitto_broker, over_mosquitto, running
):
    settings = over_mosquitto(40, delivery={"resend_after_s": 0.2, "resend_max_s": 2.0, "window": 4})
    with FarEnd(broker_of(mosquitto_broker), answers=()) as far:
        far.tell_worker("online", birth=1)  # it dies with nobody to say so
        with running(settings) as agent:
            all_taken(agent)
            eventually(lambda: "nobody has answered" in agent.status()["alarm"])
            assert len(far.frames) < 40  # no longer poured into the void
            far.answers = ("diagnosed", "recorded")
            settled(agent, 40)
            eventually(lambda: agent.status()["alarm"] == "")


def test_a_receipt_weighs_more_than_a_fleet_that_says_offline(mosquitto_broker, over_mosquitto, running):
    with FarEnd(broker_of(mosquitto_broker)) as far:
        far.tell_worker("offline", birth=1)
        with running(over_mosquitto(30)) as agent:
            settled(agent, 30)


def test_a_forbidden_fleet_topic_stops_no_frame(tmp_path, folder, edge_settings, running):
    edge, others = Member("edge", DEVICE, SITE), Member("operator", "far-end")
    rules = render_acl([edge]).splitlines()
    allowed = [line for line in rules if not line.endswith(("fleet/+/state", f"{DEVICE}/state"))]
    assert len(allowed) < len(rules)
    (tmp_path / "acl").write_text(
        "\n".join(
            [*allowed, f"topic write hemolink/v1/{SITE}/{DEVICE}/state", f"user {others.username}", "topic #"]
        )
        + "\n"
    )
    (tmp_path / "passwords").write_text(render_passwords({edge.username: "e", others.username: "o"}))
    (tmp_path / "edge-password").write_text("e")
    with MosquittoProcess(
        tmp_path / "broker", password_file=tmp_path / "passwords", acl_file=tmp_path / "acl"
    ) as broker:
        operator = BrokerSettings(port=broker.port, username=others.username, password="o")
        settings = edge_settings(
            broker.port,
            {"kind": "folder", "path": str(folder(5)), "settle_s": 0},
            protocol="5",
            broker={"username": edge.username, "password_file": str(tmp_path / "edge-password")},
        )
        with FarEnd(operator) as far:
            far.tell_worker("offline", birth=1)
            with running(settings) as agent:
                assert "no worker" not in settled(agent, 5)["alarm"]
                eventually(lambda: agent.status()["alarm"] == "")


def test_without_the_resend_rule_a_frame_goes_out_once(
    mosquitto_broker, folder, picture, edge_settings, running, tmp_path
):
    path = folder(1)
    settings = edge_settings(
        mosquitto_broker.port,
        {"kind": "folder", "path": str(path), "settle_s": 0, "watch": True},
        protocol="5",
        delivery={"resend": False, "resend_after_s": 0.2, "resend_max_s": 0.2, "window": 1},
    )
    with FarEnd(broker_of(mosquitto_broker), answers=()) as far:
        for new in (1, 2):
            with running(settings):
                eventually(lambda new=new: len(far.frames) == new)
                cv2.imwrite(str(tmp_path / "new.jpg"), picture(100 + new))
                (tmp_path / "new.jpg").rename(path / f"later-{new}.jpg")
                # With a window of one it goes when the time of the one before is over.
                eventually(lambda new=new: len(far.frames) == new + 1)
                far.tell_worker("online", birth=new)
        assert set(far.heard.values()) == {1}


def test_a_lease_keeps_a_diagnosed_frame_from_the_workers_and_ends(mosquitto_broker, over_mosquitto, running):
    lease_s = 2.0
    settings = over_mosquitto(1, delivery={"resend_after_s": 0.2, "resend_max_s": 0.2, "lease_s": lease_s})
    with FarEnd(broker_of(mosquitto_broker), answers=("diagnosed",)) as far, running(settings) as agent:
        eventually(lambda: far.order)
        far.tell_worker("online", birth=1)  # whoever comes, it is diagnosed already
        eventually(lambda: len(far.heard_at) == 2)
        assert far.heard_at[1] - far.heard_at[0] > lease_s * 0.95
        eventually(lambda: "start the dashboard" in agent.status()["alarm"])
        assert agent.status()["spooled"] == 1
        far.answers = ("diagnosed", "recorded")
        settled(agent, 1)
        eventually(lambda: agent.status()["alarm"] == "")


def test_lost_receipts_cost_a_resend_each_and_no_frame(mosquitto_broker, over_mosquitto, running):
    settings = over_mosquitto(12, start_paused=True, delivery={"resend_after_s": 0.3, "resend_max_s": 0.3})
    with FarEnd(broker_of(mosquitto_broker)) as far, running(settings) as agent:
        far.answers = ()
        agent._capture.resume()
        all_taken(agent)
        eventually(lambda: len(far.frames) == 12)
        far.answers = ("recorded",)
        settled(agent, 12)
        assert all(far.heard[frame_id] >= 2 for frame_id in far.frames)


def noise(path, *, side=480):
    rng = np.random.default_rng(1)
    cv2.imwrite(str(path), rng.integers(0, 255, (side, side * 4 // 3, 3), dtype=np.uint8))


def test_an_image_once_published_never_changes_under_its_id(
    mosquitto_broker, tmp_path, edge_settings, running
):
    (tmp_path / "pictures").mkdir()
    noise(tmp_path / "pictures" / "0.png", side=240)  # about 230 kB, and half of it as JPEG
    camera = {"kind": "folder", "path": str(tmp_path / "pictures"), "settle_s": 0}

    def settings(limit):
        return edge_settings(
            mosquitto_broker.port,
            camera,
            protocol="5",
            quality={"enabled": False},
            broker={"max_packet_bytes": limit},
            drain_s=0,
        )

    with FarEnd(broker_of(mosquitto_broker), answers=()) as far:
        with running(settings(1_000_000)):
            frame_id = eventually(lambda: far.order and far.order[0])
        sent = far.frames[frame_id].image_sha256
        # The broker takes less from now on. The record may have the image: it must not come again in another form.
        with running(settings(150_000)) as agent:
            status = eventually(lambda: (s := agent.status())["parked"] and not s["untold"] and s)
            assert status["spooled"] == 0
            told = eventually(lambda: far.rejections)[0]
            assert (told.frame_id, told.code, told.by) == (frame_id, "too_large", DEVICE)
            assert "published before" in told.reason
        assert far.frames[frame_id].image_sha256 == sent
        assert len(far.frames) == 1


def test_a_frame_that_the_edge_parks_is_told_until_somebody_has_it_and_then_no_more(
    mosquitto_broker, tmp_path, edge_settings, running
):
    (tmp_path / "pictures").mkdir()
    noise(tmp_path / "pictures" / "0.png")
    camera = {"kind": "folder", "path": str(tmp_path / "pictures"), "settle_s": 0}
    settings = edge_settings(
        mosquitto_broker.port,
        camera,
        protocol="5",
        quality={"enabled": False},
        broker={"max_packet_bytes": 50_000},
    )
    with running(settings) as agent:  # nobody subscribes
        status = eventually(lambda: (s := agent.status())["parked"] and s)
        assert status["untold"] == 1
        assert status["next_sequence"] == 1
        assert status["oldest_waiting"] is None
    with FarEnd(broker_of(mosquitto_broker)) as far:
        with running(settings) as agent:
            told = eventually(lambda: far.rejections)[0]
            assert (told.code, told.sequence, told.site, told.device) == ("too_large", 0, SITE, DEVICE)
            eventually(lambda: agent.status()["untold"] == 0)
        with running(settings) as agent:
            eventually(lambda: agent.status()["connected"] and len(far.states) > 2)
            assert agent.status()["parked"] == 1
        assert len(far.rejections) == 1


def test_a_frame_that_a_mute_broker_hangs_up_on_blocks_nobody(tmp_path, edge_settings, running, picture):
    path = tmp_path / "pictures"
    path.mkdir()
    noise(path / "0.png")  # first in the row
    for number in range(1, 6):
        cv2.imwrite(str(path / f"{number}.jpg"), picture(number))
    with MosquittoProcess(tmp_path / "broker", max_packet_bytes=100_000) as broker:
        settings = edge_settings(  # MQTT 3.1.1 has no way to say how much a broker takes
            broker.port,
            {"kind": "folder", "path": str(path), "settle_s": 0},
            protocol="3.1.1",
            quality={"enabled": False},
            delivery={"resend_max_s": 30},
        )
        with FarEnd(broker_of(broker, "3.1.1")) as far, running(settings) as agent:
            status = eventually(lambda: (s := agent.status())["settled"] == 5 and s, within_s=60)
            assert status["spooled"] == 1
            assert len(far.frames) == 5
            # The frame that is too large may meet the broker for the first time after the others are through.
            eventually(lambda: "set broker.max_packet_bytes" in agent.status()["alarm"], within_s=60)


def test_a_live_device_corrects_a_retained_state_that_says_offline(mosquitto_broker, over_mosquitto, running):
    with FarEnd(broker_of(mosquitto_broker)) as far, running(over_mosquitto(1, heartbeat_s=3600)) as agent:
        settled(agent, 1)
        online = eventually(lambda: next((one for one in far.states if one.presence == "online"), None))
        topic = far.topics.state(SITE, DEVICE)
        will = online.model_copy(update={"presence": "offline", "at": now()})
        far.session.publish(publication(topic, will))  # as a broker that takes a cut line for a death
        eventually(lambda: "offline" in [one.presence for one in far.states])
        eventually(lambda: far.states[-1].presence == "online")
        retained = []
        late = Session(
            broker_of(mosquitto_broker),
            client_id="late",
            subscriptions=(Subscription(topic),),
            on_message=lambda message: retained.append(decode(message.payload, DeviceState)),
        )
        with late:
            assert eventually(lambda: retained)[0].presence == "online"


def test_a_second_device_of_the_same_name_is_told(mosquitto_broker, over_mosquitto, running):
    with FarEnd(broker_of(mosquitto_broker)) as far, running(over_mosquitto(0)) as agent:
        own = eventually(lambda: next((one for one in far.states if one.presence == "online"), None))
        other = own.model_copy(update={"birth": own.birth + 5})
        far.session.publish(publication(far.topics.state(SITE, DEVICE), other))
        eventually(lambda: f"another edge calls itself {SITE}/{DEVICE}" in agent.status()["alarm"])


def test_a_simulated_edge_that_is_killed_repeats_no_field(mosquitto_broker, edge_settings, tmp_path):
    camera = {
        "kind": "simulated",
        "patients": 5,
        "frames_per_case": 6,
        "width": 160,
        "height": 120,
        "seed": 3,
    }
    settings = edge_settings(
        mosquitto_broker.port, camera, protocol="5", quality={"enabled": False}, interval_s=0.02
    )
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"broker": {"password"}})))

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "--settings", str(file)], stderr=subprocess.DEVNULL
        )

    with FarEnd(broker_of(mosquitto_broker)) as far:
        for enough in (4, 12):
            process = start()
            try:
                eventually(lambda enough=enough: len(far.frames) >= enough)
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(10)
        process = start()
        try:
            eventually(lambda: far.states[-1].finished and not far.states[-1].spooled)
            assert far.states[-1].next_sequence == 30
        finally:
            process.terminate()
            process.wait(15)
        images = [frame.image_sha256 for frame in far.frames.values()]
        assert len(images) == len(set(images)) == 30
        assert sorted(frame.sequence for frame in far.frames.values()) == list(range(30))
        assert len({frame.case for frame in far.frames.values()}) == 5
