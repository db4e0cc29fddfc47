"""A frame that kills the process must not kill the fleet: real processes that really die."""

import json
import signal
import socket
import threading
from hashlib import sha256

import pytest

from broker_config.codec import encode
from broker_config.errors import SettingsError
from cloud_worker.journal import Journal, Leftover
from cloud_worker.settings import Settings
from cloud_worker.suspects import DEATHS_ALONE, SuspectBook, pardon
from cloud_worker.worker import Worker

pytestmark = pytest.mark.mosquitto


def book(process):
    path = process.directory / "suspects" / "book.json"
    return json.loads(path.read_text())["suspects"] if path.exists() else []


@pytest.mark.parametrize(
    ("fault", "exit_code", "code"),
    [
        ("ABORT", -signal.SIGABRT, "kills_worker"),
        pytest.param("ABORT_DECODING", -signal.SIGABRT, "kills_worker", marks=pytest.mark.slow),
        ("HANG", 3, "hangs_engine"),
        pytest.param("WRECK", 1, "kills_worker", marks=pytest.mark.slow),
    ],
)
def test_three_deaths_alone_make_a_dead_letter_and_the_innocent_are_diagnosed(
    mosquitto_broker, fakes, worker_process, fault, exit_code, code
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        process = worker_process(mosquitto_broker.port, inference_deadline_s=0.6, decoders=1, max_wait_ms=200)
        far.wait(lambda: far.states, 30)
        process.supervise()
        killer = fakes.make_frame(getattr(fakes, fault))
        innocent = [fakes.make_frame(value) for value in range(40, 50)]
        fakes.deliver(far, [*innocent[:4], killer, *innocent[4:]])
        assert all("diagnosed" in far.statuses(frame) for frame in innocent)
        assert {(one.frame_id, one.code, one.sequence) for one in far.rejections} == {
            (killer.frame_id, code, 0)
        }
        # Once in company, three times alone, then told at once, and never again.
        assert process.codes == [exit_code] * (1 + DEATHS_ALONE)
        told = far.statuses(killer).count("rejected")
        far.send(killer)
        far.wait(lambda: far.statuses(killer).count("rejected") == told + 1)
        assert len(process.codes) == 1 + DEATHS_ALONE
        assert [one["frame_id"] for one in book(process)] == [killer.frame_id]
        assert (process.status()["condemned"], process.status()["suspects"]) == (1, 1)


def test_sigkill_again_and_again_condemns_nobody(mosquitto_broker, fakes, worker_process, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        process = worker_process(mosquitto_broker.port, delay_s=0.1, max_batch_size=4)
        process.supervise()
        frames = [fakes.make_frame(value) for value in range(20, 80)]
        edge = threading.Thread(target=fakes.deliver, args=(far, frames))
        edge.start()
        for kill in range(4):
            before = len(far.receipts)
            far.wait(lambda known=before: len(far.receipts) > known + 3, 30)
            process.send_signal(signal.SIGKILL)
            until(lambda number=kill: len(process.codes) > number)
        edge.join(60)
        assert all("diagnosed" in far.statuses(frame) for frame in frames), far.heard()
        assert far.rejections == []
        until(lambda: process.status()["suspects"] == 0)  # each was cleared by running alone
        assert process.codes == [-signal.SIGKILL] * 4


def test_a_worker_that_died_asks_at_once_for_what_it_had_taken(
    mosquitto_broker, fakes, worker_process, until
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        process = worker_process(mosquitto_broker.port, delay_s=60, max_batch_size=2)
        far.wait(lambda: far.states, 30)
        frames = [far.send(fakes.make_frame(value)) for value in range(20, 30)]
        until(lambda: process.status()["taken"] == 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.start()
        far.wait(lambda: all(far.statuses(frame) == ["retry"] for frame in frames), 30)
        assert {one.reason for one in far.receipts} == {"the worker that had taken this frame died"}
        assert len(book(process)) <= 2 + 4  # the batch, and what each decoder had


def test_an_orderly_stop_accuses_nobody(mosquitto_broker, fakes, worker_process, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        process = worker_process(mosquitto_broker.port, delay_s=60, drain_s=0.3)
        far.wait(lambda: far.states, 30)
        far.send(fakes.make_frame(20))
        until(lambda: process.status()["taken"] == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        process.start()
        far.wait(lambda: far.states[-1].birth == 2, 30)
        assert book(process) == []


def test_a_pardoned_frame_is_tried_again(mosquitto_broker, fakes, start_worker, tmp_path):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port)
        frame = fakes.make_frame(60)
        far.send(frame)
        far.wait(lambda: far.diagnoses)
        running.worker.stop()
        running.stopped = True
        key = sha256(encode(frame)).hexdigest()
        folder = tmp_path / "w1" / "suspects"
        (folder / "book.json").write_text(
            json.dumps(
                {
                    "birth": 1,
                    "suspects": [
                        {"sha256": key, "deaths": 4, "deaths_alone": 3, "at": frame.captured_at.isoformat()}
                    ],
                }
            )
        )
        again = start_worker(mosquitto_broker.port)
        far.send(frame)
        far.wait(lambda: far.statuses(frame)[-1] == "rejected")
        pardon(folder, key)
        far.send(frame)
        far.wait(lambda: far.statuses(frame)[-1] == "diagnosed")
        assert again.worker.status()["suspects"] == 0


def test_a_suspect_gets_its_turn_under_steady_load_and_is_alone(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, max_batch_size=4, receive_maximum=16)
        suspect = fakes.make_frame(99)
        running.worker.suspects.accuse([leftover(fakes, suspect)], birth=10**6)
        running.model.delay_s = 0.02
        stop = threading.Event()

        def load():
            while not stop.is_set():
                far.send(fakes.make_frame(50))

        loads = [threading.Thread(target=load) for _ in range(6)]
        for thread in loads:
            thread.start()
        far.wait(lambda: len(far.diagnoses) > 20, 20)
        far.send(suspect)
        far.wait(lambda: "diagnosed" in far.statuses(suspect), 30)
        stop.set()
        for thread in loads:
            thread.join(20)
        assert [99] in running.model.batches
        assert max(len(batch) for batch in running.model.batches) > 1


def leftover(fakes, frame):
    return Leftover(
        sha256(encode(frame)).hexdigest(),
        frame.frame_id,
        "lab",
        "scope-1",
        0,
        at_work=True,
        alone=False,
        hung=False,
    )


def test_a_journal_that_cannot_be_understood_accuses_nobody(tmp_path, start_worker, mosquitto_broker):
    folder = tmp_path / "w1" / "suspects"
    folder.mkdir(parents=True)
    (folder / "journal").write_bytes(b"HLJ2" + bytes(range(256)) * 40)
    (folder / "book.json").write_text("{")
    running = start_worker(mosquitto_broker.port)
    assert running.worker.status()["suspects"] == 0
    assert (folder / "book.unreadable").exists()


def test_the_same_death_counts_once(tmp_path, fakes):
    frame = fakes.make_frame(1)
    for _ in range(3):  # killed again and again before the journal was begun anew
        suspects = SuspectBook(tmp_path)
        suspects.open()
        suspects.accuse([leftover(fakes, frame)], birth=7)
    assert [one["deaths"] for one in json.loads((tmp_path / "book.json").read_text())["suspects"]] == [1]
    journal = Journal(tmp_path / "journal", slots=2)
    assert journal.open(birth=1) == (0, [])


def test_a_second_worker_in_the_same_folder_is_refused(mosquitto_broker, fakes, start_worker, tmp_path):
    start_worker(mosquitto_broker.port)
    second = Worker(Settings(directory=tmp_path / "w1"), model=(fakes.FakeModel(), fakes.IDENTITY))
    with pytest.raises(SettingsError, match="another worker runs there"):
        second.start()


def test_two_workers_of_one_name_are_told_apart(mosquitto_broker, fakes, start_worker, tmp_path, until):
    first = start_worker(mosquitto_broker.port, name="same")
    settings = first.worker.settings.model_copy(update={"directory": tmp_path / "elsewhere"})
    second = Worker(settings, model=(fakes.FakeModel(), fakes.IDENTITY))
    second.start()
    try:
        told = "another client calls itself 'hemolink-worker-same'"
        until(lambda: told in first.worker.ready()[1] or told in second.ready()[1])
    finally:
        second.stop()


def test_the_name_stays_and_no_two_folders_share_one(tmp_path):
    names = [Settings(directory=tmp_path / folder).name for folder in ("a", "a", "b")]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith(socket.gethostname().lower()[:3])
    assert Settings(broker={"username": "worker.gpu-1"}).name == "gpu-1"


def test_a_supervisor_is_told_that_the_worker_lives(
    mosquitto_broker, fakes, worker_process, tmp_path, monkeypatch
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        process = worker_process(mosquitto_broker.port)
        assert supervisor.recv(1000) == b"READY=1"
        assert supervisor.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=serving fake")
        assert supervisor.recv(1000).startswith(b"WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        while (word := supervisor.recv(1000)) != b"STOPPING=1":
            assert word.startswith(b"WATCHDOG=1")
        assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killer_does_not_kill_a_fleet_of_three(mosquitto_broker, fakes, worker_process):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        fleet = [
            worker_process(mosquitto_broker.port, name=f"w{number}", pool="main", delay_s=0.02)
            for number in range(3)
        ]
        far.wait(lambda: {state.worker for state in far.states} == {"w0", "w1", "w2"}, 60)
        for process in fleet:
            process.supervise()
        killer = fakes.make_frame(fakes.ABORT)
        innocent = [fakes.make_frame(value) for value in range(40, 100)]
        fakes.deliver(far, [*innocent[:30], killer, *innocent[30:]], timeout_s=200)
        assert all("diagnosed" in far.statuses(frame) for frame in innocent)
        assert {one.frame_id for one in far.rejections} == {killer.frame_id}
        assert {one.code for one in far.rejections} == {"kills_worker"}
        deaths = [len(process.codes) for process in fleet]
        assert max(deaths) <= 1 + DEATHS_ALONE
