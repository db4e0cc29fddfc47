"""SIGKILL of the real daemon at every step of its write path: nothing is lost, nothing doubled, nothing told too early."""

import random
import sqlite3
from pathlib import Path

import pytest

from clinician_dashboard.verify import verify

DEADLY = (str(Path(__file__).with_name("deadly_dashboard.py")),)
STEPS = ("image", "commit", "receipt", "told")


def recorded_in(directory):
    connection = sqlite3.connect(directory / "record.sqlite")
    try:
        rows = connection.execute("select frame_id from frames where recorded_at is not null").fetchall()
    finally:
        connection.close()
    return [row[0] for row in rows]


def run(rounds, *, seed, broker, desk_process, far_side, make, eventually):
    """Kill the daemon ``rounds`` times while frames come, duplicated and in any order; then let it finish."""
    rng = random.Random(seed)
    daemon = desk_process(broker.port, program=DEADLY)
    frames = []
    with far_side(broker.port, protocol="5") as far:

        def send(batch):
            messages = [*batch, *(make.diagnosis(frame) for frame in batch)]
            messages += rng.sample(messages, len(messages) // 3)
            rng.shuffle(messages)
            far.send(*messages)

        def untold():
            heard = set(far.recorded())
            return [frame for frame in frames if frame.frame_id not in heard]

        for number in range(rounds):
            step = STEPS[number % len(STEPS)]
            daemon.start(ready=False, DIE_AT=step, DIE_AFTER=str(rng.randint(1, 2)))
            batch = [make.frame(f"HL-{number}") for _ in range(rng.randint(6, 12))]
            frames += batch
            send(untold())  # what every edge does until it has its receipt
            eventually(lambda: not (daemon.alive and untold()), within_s=40)
            if daemon.alive:
                daemon.kill()
            told_early = set(far.recorded()) - set(recorded_in(daemon.directory))
            assert not told_early, f"a receipt before its commit, dying at {step}"
        daemon.start()
        send(untold())
        eventually(lambda: daemon.summary()["recorded"] == len(frames), within_s=40)
        eventually(lambda: {frame.frame_id for frame in frames} <= set(far.recorded()), within_s=40)
        assert daemon.summary()["duplicates"] == 0
        assert daemon.terminate() == 0
    assert sorted(recorded_in(daemon.directory)) == sorted(frame.frame_id for frame in frames)
    verdict = verify(daemon.directory, progress=lambda _done, _all: None)
    assert verdict.sound, verdict
    assert verdict.orphans == []


def test_a_death_between_any_two_steps_loses_and_doubles_nothing(
    mosquitto_broker, desk_process, far_side, make, eventually
):
    run(
        4,
        seed=1,
        broker=mosquitto_broker,
        desk_process=desk_process,
        far_side=far_side,
        make=make,
        eventually=eventually,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_forty_deaths(seed, mosquitto_broker, desk_process, far_side, make, eventually):
    run(
        40,
        seed=seed,
        broker=mosquitto_broker,
        desk_process=desk_process,
        far_side=far_side,
        make=make,
        eventually=eventually,
    )
