"""Backup, restore and verify on the command line, while the real daemon records."""

import json
import shutil
import sqlite3
import threading

import pytest
from click.testing import CliRunner

from clinician_dashboard.commands import dashboard


def command(*words):
    answer = CliRunner().invoke(dashboard, [str(word) for word in words], catch_exceptions=False)
    return answer.exit_code, answer.output


@pytest.fixture
def filled(mosquitto_broker, desk_process, far_side, make, eventually):
    """A daemon with ten recorded frames of one device, and the far side that sends more."""
    daemon = desk_process(mosquitto_broker.port)
    daemon.start()
    with far_side(mosquitto_broker.port, protocol="5") as far:
        frames = [make.frame() for _ in range(10)]
        far.send(*frames, *map(make.diagnosis, frames))
        far.send(make.state(next_sequence=11))
        eventually(lambda: daemon.summary()["recorded"] == 10)
        yield daemon, far, frames


def test_a_backup_of_a_running_record_is_whole_and_comes_back(
    filled, make, eventually, tmp_path, desk_process
):
    daemon, far, frames = filled
    backup = tmp_path / "backup"
    more = []
    stop = threading.Event()

    def keep_coming():
        while not stop.is_set() and len(more) < 500:
            more.append(make.frame())
            far.send(more[-1], make.diagnosis(more[-1]))

    source = threading.Thread(target=keep_coming)
    source.start()
    try:
        eventually(lambda: len(more) > 5)
        code, said = command("backup", "--settings", daemon.settings, backup)
        assert code == 0, said
        first = json.loads((backup / "manifest.json").read_text())
        # Again: what is there already is not copied again.
        code, said = command("backup", "--settings", daemon.settings, backup, "--json")
        again = json.loads(said.splitlines()[-1])
    finally:
        stop.set()
        source.join()
    assert again["copied"] == again["images"] - len(first["images"])
    eventually(lambda: daemon.summary()["recorded"] == 10 + len(more))
    # Everything since is recorded, receipted, and gone from the edge; then the record is lost.
    late = make.frame()
    far.send(late, make.diagnosis(late))
    far.send(make.state(next_sequence=late.sequence + 1, birth=2))
    eventually(lambda: daemon.summary()["recorded"] == 11 + len(more))
    assert daemon.summary()["missing"] == 0
    code, said = command("restore", "--settings", daemon.settings, backup)
    assert (code, "holds a record already" in said) == (1, True)
    assert daemon.terminate() == 0
    shutil.rmtree(daemon.directory)
    code, said = command("restore", "--settings", daemon.settings, backup)
    assert code == 0, said
    assert "no command brings them back" in said.replace("\n", " ")
    code, said = command("verify", "--settings", daemon.settings, "--json")
    verdict = json.loads(said.splitlines()[-1])
    assert (verdict["database"], verdict["absent"]["count"], verdict["unanswered"]["count"]) == ("ok", 0, 0)
    assert verdict["recorded"] >= len(first["images"]) - 2
    # The restored record says by itself which frames it lacks, as soon as the device speaks.
    again = desk_process(int(daemon.settings.read_text().split("port: ")[1].split(",")[0]))
    again.start()
    assert again.get(f"/api/v1/frames/{frames[0].frame_id}/image").content == frames[0].image
    eventually(lambda: again.summary()["on_the_way"] + again.summary()["missing"] > 0)
    fleet = again.get("/api/v1/fleet").json()
    (device,) = fleet["devices"]
    lacking = again.summary()
    assert lacking["on_the_way"] + lacking["missing"] == late.sequence + 1 - 1 - lacking["recorded"]
    assert device["state"]["next_sequence"] == late.sequence + 1


def test_a_broken_backup_is_never_taken_for_a_whole_one(filled, tmp_path):
    daemon, _far, frames = filled
    backup, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    assert command("backup", "--settings", daemon.settings, backup)[0] == 0
    settings = tmp_path / "other.yaml"
    settings.write_text(f"directory: {elsewhere}\nport: 0\n")
    # Interrupted before its last step.
    manifest = (backup / "manifest.json").rename(tmp_path / "manifest.json")
    code, said = command("restore", "--settings", settings, backup)
    assert (code, "not a whole backup" in said) == (1, True)
    shutil.copy(manifest, backup / "manifest.json")
    # An image that changed on the backup's disk.
    image = next(backup.glob(f"images/sha256/*/*/{frames[3].image_sha256}"))
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    code, said = command("restore", "--settings", settings, backup)
    assert (code, "is damaged" in said, (elsewhere / "record.sqlite").exists()) == (1, True, False)
    # The next backup mends it; and a backup may not lie in the record, nor among strangers.
    assert command("backup", "--settings", daemon.settings, backup)[0] == 0
    assert command("restore", "--settings", settings, backup)[0] == 0
    assert "lies in the record" in command("backup", "--settings", daemon.settings, daemon.directory / "b")[1]
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "letters.txt").write_text("mine")
    assert "is no backup" in command("backup", "--settings", daemon.settings, tmp_path / "strange")[1]


def test_verify_names_what_is_wrong(filled, tmp_path):
    daemon, _far, frames = filled
    assert daemon.terminate() == 0
    assert command("verify", "--settings", daemon.settings)[0] == 0
    images = daemon.directory / "images" / "sha256"
    gone, altered = (next(images.glob(f"*/*/{frame.image_sha256}")) for frame in frames[:2])
    gone.unlink()
    altered.write_bytes(b"other")
    orphan = images / "aa" / "bb" / ("ab" * 32)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"left over")
    import os  # noqa: PLC0415

    os.utime(orphan, (1, 1))
    connection = sqlite3.connect(daemon.directory / "record.sqlite")
    connection.execute("delete from diagnoses where frame_id = ?", (frames[2].frame_id,))
    connection.commit()
    connection.close()
    code, said = command("verify", "--settings", daemon.settings, "--remove-orphans")
    assert code == 1
    for frame in frames[:3]:
        assert frame.frame_id in said
    assert orphan.name in said
    assert not orphan.exists()
    assert "NOT sound" in said
    page = bytearray((daemon.directory / "record.sqlite").read_bytes())
    page[4096 * 3 : 4096 * 5] = b"\xff" * 8192
    (daemon.directory / "record.sqlite").write_bytes(page)
    code, said = command("verify", "--settings", daemon.settings)
    assert code == 1
    assert "database     whole" not in said
