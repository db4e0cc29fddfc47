"""A supervised process: started again, held down, frozen, and ended with whatever it had forked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hemolink.bench.faults.member import Member, tethered

SLEEP = "import time; time.sleep(300)"
FORKS = "import os, time\npid = os.fork()\nif pid: print(pid, flush=True)\ntime.sleep(300)"


class Part:
    def __init__(self, code, said):
        self.code = code
        self.said = said
        self.process = None

    def start(self):
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [*tethered(sys.executable), "-c", self.code], stdout=said, start_new_session=True
            )

    def fault(self):
        return ""


def wait_for(condition, member=None, *, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        if member is not None:
            member.tend()
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def make(tmp_path):
    made = []

    def make(code=SLEEP):
        member = Member("part", Part(code, tmp_path / "said"))
        made.append(member)
        member.start()
        wait_for(lambda: member.ready)
        return member

    yield make
    for member in made:
        member.stop(5)


def test_what_is_killed_is_started_again_and_must_show_anew_that_it_is_ready(make):
    member = make()
    first = member.pid
    member.kill()
    assert not member.ready
    wait_for(lambda: member.pid not in (None, first) and member.ready, member)
    assert member.starts == 2
    assert member.deaths == [-signal.SIGKILL]


def test_what_is_held_stays_down_until_it_is_released(make):
    member = make()
    member.hold()
    assert member.pid is None
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 1.0, member)
    assert member.pid is None
    member.release()
    wait_for(lambda: member.ready, member)


def test_what_is_frozen_is_not_ready_and_goes_on_afterwards(make):
    member = make()
    member.freeze()
    state = Path(f"/proc/{member.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    assert not member.ready
    member.thaw()
    wait_for(lambda: member.ready, member)
    assert member.starts == 1


def test_a_child_that_it_has_forked_ends_with_it(make):
    member = make(FORKS)
    wait_for(lambda: member.part.said.read_text().endswith("\n"))
    child = int(member.part.said.read_text())
    assert is_alive(child)
    member.hold()
    wait_for(lambda: not is_alive(child))


def test_a_frozen_process_ends_with_whoever_started_it():
    code = (
        "import subprocess, sys\n"
        "from hemolink.bench.faults.member import tethered\n"
        "one = subprocess.Popen([*tethered(sys.executable), '-c', 'import time; print(1, flush=True); time.sleep(300)'],"
        " stdout=subprocess.PIPE)\n"
        "one.stdout.readline()\n"
        "print(one.pid, flush=True)\n"
        "one.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        child = int(starter.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        starter.kill()
        wait_for(lambda: not is_alive(child))
