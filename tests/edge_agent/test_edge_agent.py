"""The whole agent over real brokers, with a far end that answers."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from datetime import timedelta

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from broker_config.delivery import Publication, publication
from broker_config.device_messages import Command
from broker_config.messages import now
from broker_config.settings import BrokerSettings
from edge_agent.commands import edge
from edge_agent.errors import AgentRefused, SpoolUnavailable
from edge_agent.spool import Spool
from tests.edge_agent.conftest import DEVICE, SITE, FarEnd, eventually


def broker_of(broker, protocol="3.1.1"):
    return BrokerSettings(port=broker.port, protocol=protocol, reconnect_max_s=0.5)


def order(far, verb, **fields):
    command = Command(request_id=uuid.uuid4().hex, verb=verb, at=fields.pop("at", now()), **fields)
    far.session.publish(publication(far.topics.command(SITE, DEVICE, verb), command))
    return command


def answer_to(far, command):
    return eventually(
        lambda: next((one for one in far.responses if one.request_id == command.request_id), None)
    )


def test_every_picture_of_a_folder_is_delivered_once(any_broker, folder, edge_settings, running):
    path = folder(12)
    (path / "notes.txt").write_text("not a picture")
    (path / "empty.jpg").write_bytes(b"")
    settings = edge_settings(
        any_broker.port,
        {"kind": "folder", "path": str(path), "settle_s": 0.1},
        delivery={"resend_after_s": 60},
    )
    with FarEnd(broker_of(any_broker)) as far, running(settings) as agent:
        status = eventually(lambda: (s := agent.status())["finished"] and not s["spooled"] and s)
        assert (status["captured"], status["settled"], status["unreadable"]) == (12, 12, 2)
        assert status["quality_reasons"] == {"file_empty": 1, "file_not_an_image": 1}
        assert far.heard.total() == len(far.frames) == 12
        frames = sorted(far.frames.values(), key=lambda frame: frame.sequence)
        assert [frame.sequence for frame in frames] == list(range(12))
        assert frames[0].case == "folder"
        assert frames[0].encoding == "jpeg"
        assert (frames[0].width, frames[0].height) == (320, 240)
        assert frames[0].image == (path / "000.jpg").read_bytes()  # as it was: no second lossy encoding
    # A second run takes nothing again: each file once.
    with FarEnd(broker_of(any_broker)) as far, running(settings) as agent:
        eventually(lambda: agent.status()["finished"])
        assert agent.status()["captured"] == 0
        assert not far.frames


def test_a_file_taken_again_after_the_spool_was_lost_is_the_same_frame(
    embedded_broker, folder, edge_settings, running
):
    settings = edge_settings(embedded_broker.port, {"kind": "folder", "path": str(folder(3)), "settle_s": 0})
    with FarEnd(broker_of(embedded_broker)) as far:
        for run in (1, 2):
            with running(settings) as agent:
                eventually(lambda agent=agent: (s := agent.status())["finished"] and s["settled"] == 3)
            assert sorted(far.heard.values()) == [run, run, run]
            shutil.rmtree(settings.directory)


@pytest.mark.mosquitto
def test_simulated_patients_under_mqtt_5_say_simulated_and_bad_fields_are_refused(
    mosquitto_broker, edge_settings, running
):
    camera = {
        "kind": "simulated",
        "patients": 6,
        "frames_per_case": 2,
        "blank": 0.3,
        "out_of_focus": 0.3,
        "seed": 4,
    }
    settings = edge_settings(mosquitto_broker.port, camera, protocol="5", frames=12)
    with FarEnd(broker_of(mosquitto_broker, "5")) as far, running(settings) as agent:
        status = eventually(lambda: (s := agent.status())["finished"] and not s["spooled"] and s)
        assert status["captured"] == 12 == status["settled"] + status["quality_rejected"]
        assert set(status["quality_reasons"]) >= {"blank", "out_of_focus"}
        assert all(frame.simulated and frame.quality.focus > 0 for frame in far.frames.values())
        assert len({frame.case for frame in far.frames.values()}) > 1
        state = eventually(lambda: next((s for s in far.states if s.presence == "online"), None))
        assert state.simulated
        assert state.birth == 1


@pytest.mark.mosquitto
def test_frames_wait_for_a_broker_and_survive_its_restart(mosquitto_broker, folder, edge_settings, running):
    mosquitto_broker.stop()
    settings = edge_settings(
        mosquitto_broker.port, {"kind": "folder", "path": str(folder(6)), "settle_s": 0}, protocol="5"
    )
    with running(settings) as agent:
        status = eventually(lambda: (s := agent.status())["finished"] and s["alarm"] and s)
        assert status["spooled"] == 6
        assert str(mosquitto_broker.port) in status["alarm"]  # it says which broker is away
        mosquitto_broker.start()
        # The broker is there, and nobody takes frames: they are kept.
        eventually(lambda: "no worker" in agent.status()["alarm"])
        assert agent.status()["spooled"] == 6
        with FarEnd(broker_of(mosquitto_broker, "5"), answers=("diagnosed",)) as far:
            eventually(lambda: len(far.frames) == 6)
            assert agent.status()["spooled"] == 6  # diagnosed is not recorded
        mosquitto_broker.stop()
        mosquitto_broker.start()
        with FarEnd(broker_of(mosquitto_broker, "5")) as far:
            eventually(lambda: agent.status()["settled"] == 6)
            assert len(far.frames) == 6
        eventually(lambda: agent.status()["alarm"] == "")


def test_a_silent_far_end_is_told_and_forgotten_when_it_answers(
    embedded_broker, folder, edge_settings, running, caplog
):
    settings = edge_settings(
        embedded_broker.port,
        {"kind": "folder", "path": str(folder(1)), "settle_s": 0},
        delivery={"resend_after_s": 0.1, "resend_max_s": 0.1},
    )
    with FarEnd(broker_of(embedded_broker), answers=()) as far, running(settings) as agent:
        eventually(lambda: "nobody has answered" in agent.status()["alarm"])
        assert "no other edge calls itself lab/scope-1" in caplog.text
        far.answers = ("diagnosed",)  # a worker, and no record
        eventually(lambda: far.heard[far.order[0]] > 6)
        eventually(lambda: "start the dashboard" in agent.status()["alarm"])
        far.answers = ("diagnosed", "recorded")
        eventually(lambda: agent.status()["settled"] == 1)
        eventually(lambda: agent.status()["alarm"] == "")


def test_receipts_rejected_retry_and_unknown(embedded_broker, folder, edge_settings, running):
    settings = edge_settings(
        embedded_broker.port,
        {"kind": "folder", "path": str(folder(2)), "settle_s": 0},
        delivery={"resend_after_s": 30},
    )
    with FarEnd(broker_of(embedded_broker), answers=()) as far, running(settings) as agent:
        eventually(lambda: len(far.frames) == 2)
        first, second = far.order[:2]
        far.send_receipt("0" * 32, "recorded")
        far.send_receipt(first, "retry")
        eventually(lambda: far.heard[first] == 2)
        far.send_receipt(first, "recorded")
        far.send_receipt(first, "recorded")
        far.send_receipt(second, "rejected", "it is a cat")
        status = eventually(lambda: (s := agent.status())["parked"] and s["settled"] and s)
        assert (status["spooled"], status["parked"], status["settled"]) == (0, 1, 1)
        eventually(lambda: "spool list" in agent.status()["alarm"])
        file = settings.directory.parent / "edge.yaml"
        file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"broker": {"password"}})))
        listed = CliRunner().invoke(edge, ["spool", "list", "--settings", str(file)])
        assert "it is a cat" in listed.output
        assert CliRunner().invoke(edge, ["spool", "show", second, "--settings", str(file)]).exit_code == 0
        exported = CliRunner().invoke(
            edge, ["spool", "export", second, str(file.parent / "out"), "--settings", str(file)]
        )
        assert exported.exit_code == 0
        assert cv2.imread(str(file.parent / "out" / f"{second}.jpg")).shape == (240, 320, 3)
        retried = CliRunner().invoke(edge, ["spool", "retry", "--all", "--settings", str(file)])
        assert retried.exit_code == 0, retried.output
        eventually(lambda: far.heard[second] == 2)
        far.send_receipt(second, "rejected", "it is still a cat")
        eventually(lambda: agent.status()["parked"])
        far.answers = ("recorded",)
        answer = answer_to(far, order(far, "retry", frame_ids=(second, "f" * 32)))
        assert answer.ok
        assert answer.message == f"1 of 2 frames go back into the row; not parked here: {'f' * 32}"
        eventually(lambda: (s := agent.status())["settled"] == 2 and s["parked"] == 0)
        assert not far.rejections  # whoever rejected them has told


@pytest.mark.mosquitto
def test_an_oversize_frame_is_made_smaller_or_parked_and_blocks_nobody(
    mosquitto_broker, tmp_path, edge_settings, running
):
    path = tmp_path / "pictures"
    path.mkdir()
    rng = np.random.default_rng(1)
    smooth = cv2.resize(
        rng.integers(60, 220, (60, 80, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST
    )
    grainy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    cv2.imwrite(str(path / "0-fits-smaller.png"), grainy)
    cv2.imwrite(str(path / "1-never-fits.png"), rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
    cv2.imwrite(str(path / "2-fits.jpg"), smooth)
    settings = edge_settings(
        mosquitto_broker.port,
        {"kind": "folder", "path": str(path), "settle_s": 0},
        protocol="5",
        broker={"max_packet_bytes": 120_000},
        quality={"enabled": False},
    )
    with FarEnd(broker_of(mosquitto_broker, "5")) as far, running(settings) as agent:
        status = eventually(lambda: (s := agent.status())["settled"] == 2 and s["parked"] == 1 and s)
        assert status["spooled"] == 0
        smaller = next(frame for frame in far.frames.values() if "reencoded" in frame.quality.flags)
        assert smaller.encoding == "jpeg"
        assert len(smaller.image) < 120_000


def test_orders_are_obeyed_once_and_answered(embedded_broker, edge_settings, running):
    camera = {"kind": "simulated", "patients": 1, "frames_per_case": 50}
    settings = edge_settings(embedded_broker.port, camera, start_paused=True)
    with FarEnd(broker_of(embedded_broker)) as far, running(settings) as agent:
        eventually(lambda: far.states and agent.status()["connected"])
        assert agent.status()["captured"] == 0
        take = order(far, "capture", frames=3)
        assert answer_to(far, take).ok
        eventually(lambda: agent.status()["settled"] == 3)
        assert agent.status()["paused"]
        far.session.publish(publication(far.topics.command(SITE, DEVICE, "capture"), take))  # a replay
        stale = order(far, "capture", frames=3, at=now() - timedelta(hours=1))
        refused = answer_to(far, stale)
        assert not refused.ok
        assert "issued" in refused.message
        wrong = answer_to(far, order(far, "settings", settings={"directory": "/tmp/elsewhere"}))
        assert not wrong.ok
        assert "quality.min_focus" in wrong.message
        assert not answer_to(far, order(far, "settings", settings={"quality.min_focus": 7.0})).ok
        changed = answer_to(
            far, order(far, "settings", settings={"quality.min_focus": 0.9, "interval_s": 0.0})
        )
        assert changed.ok, changed.message
        assert answer_to(far, order(far, "case-start", case="ACC-1", priority="stat")).state.case == "ACC-1"
        assert answer_to(far, order(far, "case-stop")).state.case is None
        far.session.publish(Publication(far.topics.command(SITE, DEVICE, "pause"), b"{not json"))
        assert answer_to(far, order(far, "resume")).ok
        eventually(lambda: agent.status()["quality_reasons"].get("out_of_focus", 0) > 2)
        assert answer_to(far, order(far, "pause")).ok
        assert len(far.frames) == 3
        assert sum(one.request_id == take.request_id for one in far.responses) == 1
        count = agent._counters.registry.get_sample_value
        for outcome in ("repeated", "too_old", "refused", "not_json"):
            labels = {"kind": "command", "outcome": outcome}
            assert count("hemolink_edge_messages_total", labels) >= 1, outcome


def test_a_live_worker_brings_resends_forward(embedded_broker, folder, edge_settings, running):
    settings = edge_settings(
        embedded_broker.port,
        {"kind": "folder", "path": str(folder(1)), "settle_s": 0},
        delivery={"resend_after_s": 60, "resend_max_s": 3600},
    )

    with FarEnd(broker_of(embedded_broker), answers=()) as far, running(settings) as agent:
        frame_id = eventually(lambda: far.order and far.order[0])
        far.send_receipt(frame_id, "retry")
        eventually(lambda: far.heard[frame_id] == 2)  # its second flight would last for a minute
        far.tell_worker("offline", birth=1)
        far.answers = ("recorded",)
        far.tell_worker("online", birth=2)
        eventually(lambda: agent.status()["settled"] == 1)
        assert far.heard[frame_id] == 3


def test_a_kill_between_capture_and_publish_loses_nothing(
    embedded_broker, folder, edge_settings, running, tmp_path
):
    embedded_broker.stop()  # nothing can be published: whatever is captured is on the disk only
    settings = edge_settings(embedded_broker.port, {"kind": "folder", "path": str(folder(8)), "settle_s": 0})
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"broker": {"password"}})))
    log = (tmp_path / "edge.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "edge_agent", "--settings", str(file)], stderr=log)
    try:
        probe = Spool(settings.directory / "spool.sqlite", max_bytes=10**9)

        def rows():
            if not (settings.directory / "spool.sqlite").exists():
                return 0
            with contextlib.suppress(SpoolUnavailable):  # not made yet
                probe.attach()
            return probe.totals.unsettled

        eventually(lambda: rows() >= 3)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        log.close()
    probe.close()
    embedded_broker.start()
    with FarEnd(broker_of(embedded_broker)) as far, running(settings) as agent:
        eventually(lambda: (s := agent.status())["finished"] and not s["spooled"])
        assert len(far.frames) == 8
        assert len({frame.image_sha256 for frame in far.frames.values()}) == 8
        assert sorted(frame.sequence for frame in far.frames.values()) == list(range(8))
        assert agent.state().birth == 2


def test_sigterm_drains_and_says_goodbye(embedded_broker, folder, edge_settings, tmp_path):
    settings = edge_settings(
        embedded_broker.port, {"kind": "folder", "path": str(folder(4)), "settle_s": 0, "watch": True}
    )
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"broker": {"password"}})))
    with FarEnd(broker_of(embedded_broker)) as far:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "--settings", str(file)], stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: len(far.frames) == 4)
        assert (settings.directory / "edge.port.json").exists()
        process.terminate()
        _, log = process.communicate(timeout=15)
        assert process.returncode == 0, log
        eventually(lambda: far.states[-1].presence == "offline")
        assert far.states[-1].spooled == 0
        assert "000.jpg" not in log  # a file's name may hold a patient's


def test_a_second_agent_in_the_same_directory_is_refused(embedded_broker, folder, edge_settings, running):
    settings = edge_settings(embedded_broker.port, {"kind": "folder", "path": str(folder(1)), "watch": True})
    with running(settings), pytest.raises(AgentRefused, match="another agent"), running(settings):
        pass


def test_a_full_spool_stops_capture_and_goes_on_when_there_is_room(
    embedded_broker, folder, edge_settings, running, picture
):
    path = folder(0)
    for number in range(20):
        cv2.imwrite(str(path / f"{number:03}.png"), picture(number))  # about 150 kB each
    settings = edge_settings(
        embedded_broker.port,
        {"kind": "folder", "path": str(path), "settle_s": 0},
        spool={"max_bytes": 1_000_000, "high_water": 0.9, "low_water": 0.5},
    )
    with FarEnd(broker_of(embedded_broker), answers=()) as far, running(settings) as agent:
        status = eventually(lambda: "full" in (s := agent.status())["alarm"] and not s["capturing"] and s)
        assert 0 < status["captured"] < 20
        assert status["spool_bytes"] <= 1_000_000
        ready, sentence = agent.ready()
        assert not ready
        assert "spool.max_bytes" in sentence
        far.answers = ("recorded",)
        eventually(lambda: (s := agent.status())["settled"] == 20 and not s["alarm"])
        assert len(far.frames) == 20
