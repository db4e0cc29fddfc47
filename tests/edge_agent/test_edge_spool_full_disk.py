"""A disk that is full to the last byte: receipts are noted and frames deleted all the same. On a real, small filesystem."""

import json
import shutil
import subprocess
import sys

import pytest

COMMON = """
import errno, json, os, sys
from pathlib import Path
from edge_agent.errors import SpoolUnavailable
from edge_agent.spool import Spool, SpooledFrame

folder = Path(sys.argv[1])

def frame(number):
    body = bytes([number % 251]) * 60_000
    return SpooledFrame(f"{number:032x}", number, "routine", "ACC-1", "2026-01-31T12:00:00+00:00", body, f"file-{number}")

def opened():
    spool = Spool(folder / "spool.sqlite", max_bytes=10**9, reserve_bytes=6_000_000)
    spool.open()
    return spool

def fill():
    with (folder / "others").open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

def deliver(spool, count):
    for row in spool.next_due(1e15, limit=count):
        assert spool.payload(row.frame_id) == frame(row.sequence).payload
        spool.mark_sent(row.frame_id, due_at=1e12)
        spool.mark_diagnosed(row.frame_id, due_at=1e12)
        assert spool.settle(row.frame_id)

told = {}
"""

DELIVERS = """
spool = opened()
assert spool.reserve_sentence == ""
added = 0
try:
    while True:
        spool.add(frame(added))
        added += 1
except SpoolUnavailable as error:
    told["refused"] = str(error)
told["free_when_refused"] = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
fill()
deliver(spool, added // 4)
told["in_use"] = spool.reserve_sentence
fill()  # another program takes what the reserve gave
deliver(spool, added // 4)
spool.park(spool.next_due(1e15)[0].frame_id, reason="why", code="too_large")
assert spool.mark_told(spool.untold()[0].id)
try:
    spool.add(frame(added))
    raise AssertionError("a frame was taken on a full disk")
except SpoolUnavailable:
    pass
spool.close()
fill()
spool = opened()  # it starts on a full disk
told["at_start"] = spool.reserve_sentence
with spool.batch():
    deliver(spool, added // 4)
deliver(spool, added)
os.unlink(folder / "others")
spool.tend()
told["after"] = spool.reserve_sentence
spool.add(frame(added))
deliver(spool, added)
totals = spool.totals
told |= {"added": added, "left": totals.unsettled, "parked": totals.parked, "damaged": totals.damaged}
spool.close()
print(json.dumps(told))
"""


REPAIRS = """
spool = opened()
for number in range(150):
    spool.add(frame(number))
spool.close()
path = folder / "spool.sqlite"
with path.open("r+b") as file:
    file.seek(4096 * 700)
    file.write(bytes(4096))
with (folder / "others").open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, os.statvfs(folder).f_bavail * 4096 - 12_000_000)
spool = opened()
told["at_first"] = spool.totals.unsettled
told["sentence"] = spool.reserve_sentence
deliver(spool, 1000)
spool.close()
spool = opened()  # and a restart between
os.unlink(folder / "others")
spool.tend()
told["later"] = spool.totals.unsettled
told["sentence_later"] = spool.reserve_sentence
spool.add(frame(spool.next_sequence))
deliver(spool, 1000)
told |= {"lost": [one.sequence for one in spool.lost()], "left": spool.totals.unsettled, "next": spool.next_sequence}
spool.close()
print(json.dumps(told))
"""


def on_a_small_disk(folder, size, script):
    """Run the script with a tmpfs of ``size`` mounted at ``folder``, in a mount namespace of its own."""
    command = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && exec "$3" -c "$4" "$2"'
    arguments = ["sh", "-c", command, "sh", size, str(folder), sys.executable, COMMON + script]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no 'unshare' on this machine: a small filesystem cannot be mounted")
    for options in (["-m"], ["-Urm"]):
        if subprocess.run([unshare, *options, "true"], capture_output=True, check=False).returncode == 0:
            return subprocess.run(
                [unshare, *options, *arguments], capture_output=True, text=True, timeout=120, check=False
            )
    pytest.skip("this user may make no mount namespace: a small filesystem cannot be mounted")


def test_on_a_full_disk_frames_are_delivered_and_nothing_is_lost(tmp_path):
    done = on_a_small_disk(tmp_path, "24m", DELIVERS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["added"] > 100
    assert (told["left"], told["parked"], told["damaged"]) == (0, 1, 0)
    assert "make room" in told["refused"]
    assert told["free_when_refused"] > 1_000_000  # it stopped before the last byte
    assert "reserve" in told["in_use"]
    assert "reserve" in told["at_start"]
    assert told["after"] == ""


def test_a_repair_that_finds_no_room_goes_on_when_there_is(tmp_path):
    done = on_a_small_disk(tmp_path, "40m", REPAIRS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 0 < told["at_first"] < 140
    assert "room" in told["sentence"]
    assert told["at_first"] + told["later"] == 149
    assert told["sentence_later"] == ""
    assert len(told["lost"]) == 1
    assert (told["left"], told["next"]) == (0, 151)
