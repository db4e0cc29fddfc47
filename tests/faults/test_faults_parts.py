"""Small parts of the harness: marks, pictures, damaged pages, the command's own options."""

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing

import cv2
import numpy as np
import pytest

from edge_agent.cameras.image_file import read_image
from edge_agent.encoder import encode_within
from edge_agent.errors import EncodingFailed, UnreadableFrame
from edge_agent.gate import QualityGate, QualitySettings
from hemolink.bench.faults import mark
from hemolink.bench.faults.kinds_data import damage_page
from hemolink.bench.faults.pictures import MAX_PACKET_BYTES, Album


@pytest.fixture(scope="module")
def album():
    one = Album(seed=3, fields=3)
    one.draw()
    return one


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("temper", mark.TEMPERS)
def test_a_mark_survives_the_encoders(album, temper):
    for number in (0, 1, 12345, mark.LARGEST):
        image = decoded(album.picture(number).data)
        mark.draw(image, number, temper=temper)
        for suffix, options in ((".jpg", [cv2.IMWRITE_JPEG_QUALITY, 50]), (".png", [])):
            ok, data = cv2.imencode(suffix, image, options)
            assert ok
            assert mark.read(decoded(data)) == (number, temper)


def test_a_picture_without_a_mark_has_no_number():
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert mark.read(rng.integers(0, 255, (240, 320, 3), np.uint8)) is None
    assert mark.read(np.zeros((8, 8, 3), np.uint8)) is None


def test_pictures_pass_the_edges_own_gate_and_keep_their_bytes(album):
    gate = QualityGate(QualitySettings())
    seen = set()
    for number in range(40):
        picture = album.picture(number)
        image, original = read_image(picture.data, max_pixels=10**7)
        assert gate.judge(image).accepted
        assert hashlib.sha256(original.data).hexdigest() == picture.sha256
        seen.add(picture.sha256)
    assert len(seen) == 40


def test_special_pictures_are_what_they_are_called(album):
    blank, _ = read_image(album.picture(1, sort="blank").data, max_pixels=10**7)
    assert not QualityGate(QualitySettings()).judge(blank).accepted
    with pytest.raises(UnreadableFrame):
        read_image(album.picture(2, sort="truncated").data, max_pixels=10**7)
    oversize, huge = (album.picture(number, sort=sort) for number, sort in ((3, "oversize"), (4, "huge")))
    for picture in (oversize, huge):
        assert len(picture.data) > MAX_PACKET_BYTES
        assert QualityGate(QualitySettings()).judge(decoded(picture.data)).accepted
    smaller = encode_within(oversize.data, limit_bytes=MAX_PACKET_BYTES - 2048)
    assert mark.read(decoded(smaller.data)) == (3, "plain")
    with pytest.raises(EncodingFailed):
        encode_within(huge.data, limit_bytes=MAX_PACKET_BYTES - 2048)


def test_a_damaged_page_is_damage_that_sqlite_sees(tmp_path):
    path = tmp_path / "some.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        database.executemany("INSERT INTO t (b) VALUES (?)", [(bytes(300),) for _ in range(500)])
        database.commit()
    before = path.read_bytes()
    page = damage_page(path, chance=0.5)
    after = path.read_bytes()
    assert page is not None
    assert page > 0
    assert len(before) == len(after)
    assert before[:4096] == after[:4096]
    with closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        database.execute("SELECT COUNT(b) FROM t WHERE LENGTH(b) = 300").fetchone()


def faults(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "hemolink", "bench", "faults", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_kinds_are_listed_and_an_unknown_one_is_refused(tmp_path):
    listed = faults("--list")
    assert listed.returncode == 0
    for kind in ("kill", "freeze", "half-open", "disk-full", "clock", "spool-page", "repeats", "revoked"):
        assert f"\n{kind} " in f"\n{listed.stdout}"
    unknown = faults("--only", "earthquake", "--seconds", "5")
    assert unknown.returncode != 0
    assert "earthquake" in unknown.stderr
    (tmp_path / "something").write_text("here", encoding="utf-8")
    kept = faults("--keep", str(tmp_path), "--seconds", "5")
    assert "not empty" in kept.stderr
