"""What goes wrong under a record: full disks, damaged and missing databases, locks, folders that cannot be written."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys

import pytest

from clinician_dashboard.errors import RecordError, RecordInUse
from clinician_dashboard.record import Record

# The real daemon on a disk of its own; what is left of that disk is filled first.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=4m tmpfs "$1" || exit 77
if [ -n "$4" ]; then mkdir "$1/desk" && cp "$4" "$1/desk/record.sqlite"; fi
head -c 100000000 /dev/zero > "$1/filler" 2>/dev/null
exec "$2" -m clinician_dashboard --settings "$3"
"""


@pytest.mark.parametrize("had_a_record", [False, True])
def test_a_full_disk_at_the_start_is_told_to_make_room(tmp_path, had_a_record):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: it is in util-linux")
    disk, settings = tmp_path / "disk", tmp_path / "dashboard.yaml"
    disk.mkdir()
    settings.write_text(f"directory: {disk / 'desk'}\nport: 0\n")
    before = ""
    if had_a_record:
        record = Record(f"sqlite:///{tmp_path / 'record.sqlite'}", tmp_path)
        record.start()
        record.stop()
        before = str(tmp_path / "record.sqlite")
    words = ("unshare", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh")
    done = subprocess.run(
        [*words, str(disk), sys.executable, str(settings), before],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no mount namespace may be made here")
    assert done.returncode == 1, done.stderr
    assert "make room on the disk" in done.stderr
    assert "backup" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_record_without_its_database_is_not_begun_anew(tmp_path):
    record = Record(f"sqlite:///{tmp_path / 'record.sqlite'}", tmp_path)
    record.start()
    assert record.images.put(b"an image", hashlib.sha256(b"an image").hexdigest())
    record.stop()
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"record.sqlite{ending}").unlink(missing_ok=True)
    with pytest.raises(RecordError, match="is gone, and the images of a record are still beside it"):
        record.start()
    assert not (tmp_path / "record.sqlite").exists()


def test_one_dashboard_a_folder(store):
    first, second = store.record(), store.record()
    first.start()
    with pytest.raises(RecordInUse, match="in use by a running dashboard"):
        second.start()
    first.stop()
    second.start()
    second.stop()


@pytest.fixture
def place(mosquitto_broker, tmp_path, desk, far_side):
    with (
        desk(mosquitto_broker.port, tmp_path / "desk", protocol="5") as running,
        far_side(mosquitto_broker.port, protocol="5") as far,
    ):
        yield running, far


def test_pages_damaged_at_run_time_acknowledge_nothing_and_name_the_remedy(place, make, eventually, tmp_path):
    desk, far = place
    frames = [make.frame(f"HL-{number}") for number in range(60)]
    far.send(*frames, *map(make.diagnosis, frames))
    eventually(lambda: desk.summary()["recorded"] == len(frames))
    desk.stop()
    path = tmp_path / "desk" / "record.sqlite"
    whole = path.read_bytes()
    # Every page after the schema: what a dying disk leaves.
    path.write_bytes(whole[: 4096 * 2] + b"\x55" * (len(whole) - 4096 * 2))
    with pytest.raises(RecordError, match="is damaged") as caught:
        Record(f"sqlite:///{path}", path.parent).start()
    assert "hemolink dashboard restore" in str(caught.value)


def test_damage_under_a_running_dashboard_is_told_and_loses_nothing(place, make, eventually, tmp_path):
    desk, far = place
    first = [make.frame(f"HL-{number}") for number in range(60)]
    far.send(*first, *map(make.diagnosis, first))
    eventually(lambda: desk.summary()["recorded"] == len(first))
    path = tmp_path / "desk" / "record.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x55" * (len(whole) - 4096))
    desk.dashboard._record.engine.dispose()  # or its pages would still be in the connections' caches
    frame = make.frame("HL-new")
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: "damaged" in desk.http.get("/readyz").text)
    assert "hemolink dashboard restore" in desk.http.get("/readyz").text
    assert frame.frame_id not in far.recorded()
    for path_of in ("/", "/cases/ward/HL-new", "/quality", "/api/v1/cases", "/api/v1/quality"):
        answer = desk.http.get(path_of)
        assert answer.status_code == 503, path_of
        said = answer.json()["error"] if path_of.startswith("/api/") else answer.text
        assert "hemolink dashboard restore" in said  # the next step
        assert "Nothing is lost meanwhile" in said
    with path.open("r+b") as file:  # as if it had been restored in place
        file.write(whole)
    desk.dashboard._record.engine.dispose()
    eventually(lambda: far.recorded().count(frame.frame_id) == 1, within_s=20)
    assert desk.http.get("/readyz").status_code == 200


def test_an_image_folder_that_cannot_be_written_delays_and_loses_nothing(place, make, eventually, tmp_path):
    desk, far = place
    images = tmp_path / "desk" / "images" / "sha256"
    images.rename(images.with_name("away"))
    images.write_text("no folder")
    frame = make.frame()
    far.send(frame, make.diagnosis(frame))
    eventually(lambda: "an image cannot be written" in desk.http.get("/readyz").text)
    assert far.recorded() == []
    images.unlink()
    images.with_name("away").rename(images)
    eventually(lambda: far.recorded() == [frame.frame_id])


def test_a_database_that_is_removed_at_run_time_is_told(place, eventually, tmp_path):
    desk, _far = place
    path = tmp_path / "desk" / "record.sqlite"
    path.rename(path.with_name("elsewhere"))
    eventually(lambda: "was removed while it was in use" in desk.http.get("/readyz").text)
    path.with_name("elsewhere").rename(path)
    assert desk.http.get("/readyz").status_code == 200
