"""The capture loop with a camera that misbehaves on demand."""

import cv2
import numpy as np
import pytest
from pydantic import BaseModel

from broker_config.codec import decode
from broker_config.messages import Frame
from edge_agent.cameras.base import RawFrame
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import CaseBook
from edge_agent.errors import CameraError
from edge_agent.settings import Settings
from edge_agent.spool import Spool
from edge_agent.status import Alarms, Counters
from tests.edge_agent.conftest import eventually


class LiveCamera:
    """Shows whatever `show` says, a new picture each time."""

    Settings = BaseModel
    live = True
    simulated = False
    description = "a live camera"

    def __init__(self, picture):
        self._picture = picture
        self._number = 0
        self.label = None
        self.unplugged = False
        self.opened = 0

    def open(self):
        if self.unplugged:
            raise CameraError("the camera is not there: plug it in")
        self.opened += 1

    def capture(self, *, timeout_s):
        if self.unplugged:
            raise CameraError("the camera vanished: plug it in")
        if self.label is not None:
            return RawFrame(self.label)
        self._number += 1
        return RawFrame(self._picture(self._number))

    def close(self):
        pass


class Bench:
    """A capture loop and everything around it."""

    def __init__(self, tmp_path, picture):
        self.camera = LiveCamera(picture)
        self.spool = Spool(tmp_path / "spool.sqlite", max_bytes=50_000_000)
        self.cases = CaseBook(tmp_path)
        self.counters, self.alarms = Counters(), Alarms()
        self.settings = Settings.model_validate(
            {"directory": str(tmp_path), "spool": {"min_free_bytes": 0}, "interval_s": 0.02}
        )
        self.loop = CaptureLoop(
            self.settings,
            camera=self.camera,
            spool=self.spool,
            cases=self.cases,
            counters=self.counters,
            alarms=self.alarms,
            on_spooled=lambda: None,
        )

    @property
    def captured(self):
        return self.counters.snapshot()["captured"]

    def last_case(self):
        rows = self.spool.rows()
        return rows[-1].case if rows else None


@pytest.fixture
def bench(tmp_path, picture):
    bench = Bench(tmp_path, picture)
    bench.spool.open()
    bench.loop.start()
    yield bench
    bench.loop.stop()
    bench.spool.close()


def slide_label(text):
    code = cv2.QRCodeEncoder.create().encode(text)
    code = cv2.resize(code, None, fx=7, fy=7, interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(
        cv2.copyMakeBorder(code, 60, 60, 90, 90, cv2.BORDER_CONSTANT, value=240), cv2.COLOR_GRAY2BGR
    )


def test_no_picture_without_a_case_and_a_slide_label_starts_one(bench):
    eventually(lambda: "no case" in bench.alarms.sentence)
    assert bench.captured == 0
    bench.camera.label = slide_label("HL1:ACC-1")
    eventually(lambda: bench.cases.current)
    assert bench.captured == 0  # the label itself is no field
    bench.camera.label = None
    eventually(lambda: bench.captured >= 2)
    assert bench.alarms.sentence == ""
    assert {row.case for row in bench.spool.rows()} == {"ACC-1"}
    bench.camera.label = slide_label("HL1:ACC-2:STAT")
    eventually(lambda: bench.cases.current.code == "ACC-2")
    bench.camera.label = None
    eventually(lambda: bench.last_case() == "ACC-2")
    frame = decode(bench.spool.payload(bench.spool.rows()[-1].frame_id), Frame)
    assert frame.priority == "stat"
    assert frame.capture_ms > 0


def test_a_camera_that_vanishes_is_opened_again(bench):
    bench.cases.start("ACC-1")
    eventually(lambda: bench.captured >= 1)
    bench.camera.unplugged = True
    eventually(lambda: "plug it in" in bench.alarms.sentence)
    assert not bench.loop.capturing
    bench.camera.unplugged = False
    before = bench.captured
    eventually(lambda: bench.captured > before)
    assert bench.camera.opened >= 2
    assert bench.alarms.sentence == ""


def test_a_full_disk_stops_capture_without_losing_the_picture_in_hand(bench):
    bench.cases.start("ACC-1")
    eventually(lambda: bench.captured >= 3)
    connection = bench.spool._database._writer
    with bench.spool._lock:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
    eventually(lambda: "make room" in bench.alarms.sentence)
    before = bench.captured
    assert before == len(bench.spool.rows())  # only what is on the disk is counted
    with bench.spool._lock:
        connection.execute("PRAGMA max_page_count=1000000")
    eventually(lambda: bench.captured > before)
    rows = bench.spool.rows()
    assert [row.sequence for row in rows] == list(range(len(rows)))  # none was skipped
    eventually(lambda: bench.alarms.sentence == "")


def test_a_camera_of_another_distribution_may_raise_anything(bench):
    bench.cases.start("ACC-1")
    eventually(lambda: bench.captured >= 1)
    good, bench.camera._picture = bench.camera._picture, lambda number: 1 / 0
    eventually(lambda: "stumbled" in bench.alarms.sentence)
    bench.camera._picture = good
    eventually(lambda: bench.alarms.sentence == "")
    bench.camera._picture = lambda number: np.zeros((240, 320, 3), np.uint8)
    eventually(lambda: bench.counters.snapshot()["quality_reasons"].get("blank"))
