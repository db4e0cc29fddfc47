"""Crashes: between any two steps of any call, and by SIGKILL; and the spool beside a model of it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.errors import SpoolFull
from edge_agent.spool import Spool, SpooledFrame

MAX_BYTES = 20_000
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Known:
    """What the model knows about a frame."""

    frame: SpooledFrame
    state: str = "waiting"
    reason: str = ""
    notice: str = ""


class SpoolMachine(RuleBasedStateMachine):
    """The spool on a disk beside a dictionary that does what it should, with crashes between any two steps."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY))
        self.folders = 0
        self.spool = None
        self.model = {}
        self.sources = set()
        self.number = 0
        self.floor = 0

    @initialize()
    def start(self):
        self.open_in(self.root / "0")

    def open_in(self, folder):
        self.folder = folder
        self.spool = Spool(folder / "spool.sqlite", max_bytes=MAX_BYTES, reserve_bytes=0)
        self.spool.open()
        assert self.spool.next_sequence >= self.floor, "numbers repeat"

    def copy(self):
        """Copy the files as a crash at this instant leaves them."""
        self.folders += 1
        target = self.root / str(self.folders)
        shutil.copytree(self.folder, target, ignore=shutil.ignore_patterns("*-shm", "*.guard"))
        return target

    # Deeds: each returns what the model is afterwards

    def deeds(self, data):  # noqa: C901, PLR0911, PLR0912 - one case a deed
        chosen = data.draw(st.sampled_from([*sorted(self.model), "f" * 32]), label="frame")
        known = self.model.get(chosen)
        deed = data.draw(
            st.sampled_from(
                [
                    "add",
                    "settle",
                    "park",
                    "tell",
                    "retry",
                    "sent",
                    "unsent",
                    "diagnosed",
                    "smaller",
                    "told",
                    "source",
                ]
            ),
            label="deed",
        )
        after = dict(self.model)
        spool = self.spool
        match deed:
            case "add":
                new = SpooledFrame(
                    frame_id=f"{self.number:032x}",
                    sequence=spool.next_sequence,
                    priority=data.draw(st.sampled_from(["stat", "routine"])),
                    case="ACC-1",
                    captured_at="2026-01-31T12:00:00+00:00",
                    payload=bytes([self.number % 256]) * data.draw(st.integers(1, 9000)),
                    source=data.draw(st.sampled_from(["", f"file-{self.number}"])),
                )
                self.number += 1
                fits = (
                    sum(len(one.frame.payload) for one in self.model.values()) + len(new.payload) <= MAX_BYTES
                )
                if fits:
                    after[new.frame_id] = Known(new)

                def act():
                    if fits:
                        spool.add(new)
                    else:
                        with pytest.raises(SpoolFull):
                            spool.add(new)

                return act, after
            case "source":
                return lambda: spool.note_source("another"), after
            case "settle":
                after.pop(chosen, None)
                return lambda: self.same(spool.settle(chosen), known is not None), after
            case "park" | "tell":
                code = "too_large" if deed == "tell" else ""
                free = known is not None and known.state != "parked"
                if free:
                    after[chosen] = replace(known, state="parked", reason="why", notice=code)
                return lambda: self.same(spool.park(chosen, reason="why", code=code), free), after
            case "retry":
                parked = known is not None and known.state == "parked"
                if parked:
                    after[chosen] = replace(known, state="waiting", reason="", notice="")
                return lambda: self.same(spool.retry(chosen), parked), after
            case "told":
                if known is not None:
                    after[chosen] = replace(known, notice="")
                sequence = known.frame.sequence if known else 10**9
                return lambda: self.same(spool.mark_told(sequence), bool(known and known.notice)), after
            case "smaller":
                if known is not None:
                    after[chosen] = replace(known, frame=replace(known.frame, payload=b"s"))
                return lambda: spool.replace_payload(chosen, b"s"), after
        states = {"sent": {"waiting": "sent"}, "unsent": {"sent": "waiting"}}.get(deed)
        if known is not None and known.state != "parked":
            state = "diagnosed" if states is None else states.get(known.state, known.state)
            after[chosen] = replace(known, state=state)
        mark = {"sent": spool.mark_sent, "unsent": spool.mark_unsent, "diagnosed": spool.mark_diagnosed}[deed]
        return lambda: mark(chosen, due_at=0.0), after

    @staticmethod
    def same(one, other):
        assert one == other

    @rule(data=st.data())
    def do(self, data):
        act, self.model = self.deeds(data)
        act()

    @rule(data=st.data(), size=st.integers(2, 5))
    def do_several_at_once(self, data, size):
        with self.spool.batch():
            for _ in range(size):
                act, self.model = self.deeds(data)
                act()

    @rule(data=st.data(), step=st.integers(1, 12))
    def crash_in_the_middle(self, data, step):
        """Take the files as they are at one of the statements of a call; what is found is before or after, never between."""
        before = self.model
        act, after = self.deeds(data)
        seen, copies = [], []

        def trace(_statement):
            seen.append(1)
            if len(seen) == step:
                copies.append(self.copy())

        writer = self.spool._database._writer
        writer.set_trace_callback(trace)
        act()
        writer.set_trace_callback(None)
        done = not copies
        crashed = copies[0] if copies else self.copy()
        self.floor = max(self.floor, self.spool.next_sequence if done else 0)
        self.drop()
        self.open_in(crashed)
        self.model = after if done or self.matches(after) else before

    @rule()
    def crash(self):
        crashed = self.copy()
        self.floor = max(self.floor, self.spool.next_sequence)
        self.drop()
        self.open_in(crashed)

    @rule()
    def restart(self):
        self.floor = max(self.floor, self.spool.next_sequence)
        self.spool.close()
        self.spool.open()

    @precondition(lambda self: self.model)
    @rule()
    def hasten(self):
        self.spool.hasten(due_at=0.0)
        assert self.spool.next_due_at() is not None or all(
            one.state == "parked" for one in self.model.values()
        )

    def drop(self):
        """Forget the running spool without an orderly end."""
        self.spool._database._reader.close()
        self.spool._database._writer.close()
        os.close(self.spool._marks._file)
        shutil.rmtree(self.folder)

    def matches(self, model):
        found = {row.frame_id: (row.state, row.reason, row.size) for row in self.spool.rows()}
        told = {one.frame_id for one in self.spool.untold()}
        return (
            found == {key: (one.state, one.reason, len(one.frame.payload)) for key, one in model.items()}
            and told == {key for key, one in model.items() if one.notice}
            and all(self.spool.has_source(one.frame.source) for one in model.values() if one.frame.source)
        )

    @invariant()
    def agrees(self):
        if self.spool is None:
            return
        assert self.matches(self.model)
        for frame_id, known in self.model.items():
            assert self.spool.payload(frame_id) == known.frame.payload
        totals = self.spool.totals
        assert totals == self.spool.recount()
        parked = sum(one.state == "parked" for one in self.model.values())
        assert (totals.unsettled, totals.parked) == (len(self.model) - parked, parked)
        assert totals.size == sum(len(one.frame.payload) for one in self.model.values())
        assert totals.damaged == 0
        assert totals.untold == sum(bool(one.notice) for one in self.model.values())
        due = {row.frame_id for row in self.spool.next_due(1e15, limit=1000)}
        assert due == {key for key, one in self.model.items() if one.state != "parked"}
        waiting = [one.frame.sequence for one in self.model.values() if one.state != "parked"]
        assert self.spool.oldest_waiting == min(waiting, default=None)
        assert self.spool.next_sequence > max((one.frame.sequence for one in self.model.values()), default=-1)

    def teardown(self):
        if self.spool is not None:
            self.spool.close()
        shutil.rmtree(self.root)


QUIETLY = {"deadline": None, "suppress_health_check": list(HealthCheck)}


class LongSpoolMachine(SpoolMachine):
    """The same, for longer."""


SpoolMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, **QUIETLY)
LongSpoolMachine.TestCase.settings = settings(max_examples=800, stateful_step_count=50, **QUIETLY)
test_the_spool_agrees_with_its_model_through_crashes = SpoolMachine.TestCase
test_the_spool_agrees_with_its_model_at_length = pytest.mark.slow(LongSpoolMachine.TestCase)


WORKER = """
import os, random, sys
from pathlib import Path
from edge_agent.spool import Spool, SpooledFrame
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
spool = Spool(folder / "spool.sqlite", max_bytes=10**9, reserve_bytes=0)
spool.open()
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
here = [row.frame_id for row in spool.rows(limit=10**6)]
say("ready", spool.next_sequence)
while True:
    if len(here) < 40 or rng.random() < 0.5:
        number = spool.next_sequence
        frame_id = f"{rng.getrandbits(128):032x}"
        body = random.Random(frame_id).randbytes(rng.choice([50, 3000, 40_000]))
        say("adding", frame_id, number)
        spool.add(SpooledFrame(frame_id, number, "routine", "ACC-1", "2026-01-31T12:00:00+00:00", body, f"f-{frame_id}"))
        say("added", frame_id, number)
        here.append(frame_id)
    elif rng.random() < 0.2:
        frame_id = rng.choice(here)
        say("parking", frame_id)
        spool.park(frame_id, reason="why", code="too_large")
        say("parked", frame_id)
    else:
        done = [here.pop(rng.randrange(len(here))) for _ in range(rng.randint(1, 4))]
        say("settling", *done)
        with spool.batch():
            for frame_id in done:
                spool.mark_sent(frame_id, due_at=1e12)
                spool.settle(frame_id)
        say("settled", *done)
"""


def killed_again_and_again(folder, times):  # noqa: C901, PLR0912 - the account of each life
    rng = random.Random(42)
    added, doubtful, settled, parked, highest = {}, set(), set(), set(), -1
    for life in range(times):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(life)], stdout=subprocess.PIPE, text=True
        )
        lines = [worker.stdout.readline()]
        assert lines[0].startswith("ready"), "the spool did not open after a kill"
        assert int(lines[0].split()[1]) > highest, "numbers repeat"
        lines += [worker.stdout.readline() for _ in range(rng.randint(1, 120))]
        os.kill(worker.pid, signal.SIGKILL)
        lines += worker.stdout.readlines()
        worker.wait()
        worker.stdout.close()
        doubtful = set()
        for line in lines:
            match line.split():
                case ["adding", frame_id, _]:
                    doubtful.add(frame_id)
                case ["added", frame_id, number]:
                    added[frame_id], highest = int(number), max(highest, int(number))
                case ["settling", *ids]:
                    doubtful |= set(ids)
                case ["settled", *ids]:
                    settled |= set(ids)
                case ["parked", frame_id]:
                    parked.add(frame_id)
        spool = Spool(folder / "spool.sqlite", max_bytes=10**9, reserve_bytes=0)
        spool.open()
        rows = {row.frame_id: row for row in spool.rows(limit=10**6)}
        for frame_id, number in added.items():
            if frame_id in settled:
                assert frame_id not in rows, "a frame came back"
            elif frame_id in rows:
                assert rows[frame_id].sequence == number
                assert spool.payload(frame_id) == random.Random(frame_id).randbytes(rows[frame_id].size)
                assert spool.has_source(f"f-{frame_id}")
            else:
                assert frame_id in doubtful, "a frame is gone that was never settled"
                settled.add(frame_id)
            if frame_id in parked and frame_id in rows:
                assert (rows[frame_id].state, rows[frame_id].reason) == ("parked", "why")
        for frame_id in rows.keys() - added.keys():
            assert frame_id in doubtful
            added[frame_id] = rows[frame_id].sequence
        assert spool.totals.damaged == 0
        assert spool.totals.unsettled + spool.totals.parked == len(rows)
        highest = max(highest, spool.next_sequence - 1)
        spool.close()
    return json.dumps({"added": len(added), "settled": len(settled)})


def test_a_spool_that_is_killed_again_and_again_keeps_what_it_took(tmp_path):
    killed_again_and_again(tmp_path, 6)


@pytest.mark.slow
def test_a_spool_that_is_killed_a_hundred_times_keeps_what_it_took(tmp_path):
    killed_again_and_again(tmp_path, 100)
