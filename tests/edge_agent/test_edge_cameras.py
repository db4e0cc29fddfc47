"""Cameras, files that nobody vouched for, the quality gate, labels and cases."""

import http.server
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from broker_config.errors import SettingsError
from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.image_file import read_image
from edge_agent.cameras.registry import camera_kinds, create_camera
from edge_agent.cameras.settings import CameraSettings
from edge_agent.case_book import CaseBook
from edge_agent.encoder import EncodingSettings, encode_frame, encode_within
from edge_agent.errors import CameraEnded, CameraError, CaseRefused, EncodingFailed, UnreadableFrame
from edge_agent.gate import QualityGate, QualitySettings
from edge_agent.label import LabelReader, parse_label
from smear_simulator import Faults, Microscope, population
from tests.edge_agent.conftest import eventually


def camera_of(raw, **context):
    return create_camera(TypeAdapter(CameraSettings).validate_python(raw), CameraContext(**context))


def encoded(image, suffix=".jpg", options=()):
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    + png_chunk(b"IEND", b"")
)


def test_a_folder_of_bad_files_loses_no_good_one(tmp_path, picture, caplog):
    good = encoded(picture(1))
    files = {
        "a-good.jpg": (good, None),
        "b-empty.jpg": (b"", "file_empty"),
        "c-truncated.jpg": (good[: len(good) // 2], "file_truncated"),
        "d-text.jpg": (b"Dear doctor, ...", "file_not_an_image"),
        "e-bomb.png": (BOMB, "file_too_large"),
        "f-damaged.png": (encoded(picture(2), ".png")[:-40] + b"\0" * 40, "file_corrupt"),
        "g-cut.png": (encoded(picture(2), ".png")[:-40], "file_truncated"),
        "h-good.png": (encoded(picture(3), ".png"), None),
        "i-good.webp": (encoded(picture(4), ".webp", [cv2.IMWRITE_WEBP_QUALITY, 90]), None),
        "j-good.tif": (encoded(picture(5), ".tif"), None),
        "k-good.bmp": (encoded(picture(6), ".bmp"), None),
        "l-cut.webp": (encoded(picture(4), ".webp")[:-300], "file_truncated"),
        "m-big.jpg": (good + bytes(300_000), "file_too_large"),
        "n-head.jpg": (good[:3], "file_truncated"),
        "o-tiff.tif": (b"II*\x00\xff\xff\xff\xff", "file_truncated"),
        # Well formed from marker to marker; OpenCV decodes both, with a grey part.
        "p-closed.jpg": (good[: len(good) // 2] + b"\xff\xd9", "file_corrupt"),
        "q-hole.jpg": (good[: len(good) // 2] + bytes(500) + good[len(good) // 2 + 500 :], "file_corrupt"),
        ".hidden.jpg": (good, "never seen"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    camera = camera_of({"kind": "folder", "path": str(tmp_path), "settle_s": 0, "max_file_bytes": 250_000})
    camera.open()
    outcomes, sentences = [], []
    while True:
        try:
            frame = camera.capture(timeout_s=1)
            assert frame.image.shape == (240, 320, 3)
            assert frame.default_case == "folder"
            outcomes.append(None)
        except UnreadableFrame as error:
            outcomes.append(error.code)
            sentences.append((str(error), error.source))
        except CameraEnded:
            break
    assert all(source for _, source in sentences)
    assert not any(name in said for name in files for said, _ in sentences)  # it may hold a patient's name
    assert outcomes == [code for name, (_, code) in sorted(files.items()) if not name.startswith(".")]


def test_every_truncation_of_a_file_is_noticed_and_none_escapes(picture):
    for suffix in (".jpg", ".png", ".webp"):
        data = encoded(picture(1), suffix)
        for length in [*range(0, 64, 3), *range(64, len(data) - 8, len(data) // 40)]:
            with pytest.raises(UnreadableFrame):
                read_image(data[:length], max_pixels=10**6)
    rng = np.random.default_rng(0)
    data = bytearray(encoded(picture(1)))
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            image, _ = read_image(bytes(damaged), max_pixels=10**6)
        except UnreadableFrame:
            continue
        assert image.ndim == 3


def test_metadata_is_removed_and_pixels_are_not_touched(picture):
    data = encoded(picture(1))
    comment = b"Jane Doe, born 1970"
    exif = b"Exif\0\0" + comment
    marked = (
        data[:2]
        + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        + data[2:]
    )  # fmt: skip
    image, original = read_image(marked, max_pixels=10**6)
    assert comment not in original.data
    assert original.data == data
    assert np.array_equal(image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    png = encoded(picture(1), ".png")
    text = png[:33] + png_chunk(b"tEXt", b"Comment\0" + comment) + png[33:]
    image, original = read_image(text, max_pixels=10**6)
    assert comment not in original.data
    assert np.array_equal(image, picture(1))


def test_a_watched_folder_waits_for_a_file_to_be_written_and_takes_each_once(tmp_path, picture):
    data = encoded(picture(1))
    seen = set()
    camera = camera_of(
        {"kind": "folder", "path": str(tmp_path), "watch": True, "settle_s": 0.2}, seen=seen.__contains__
    )
    camera.open()
    assert camera.capture(timeout_s=0) is None
    growing = tmp_path / "growing.jpg"
    growing.write_bytes(data[:500])
    assert camera.capture(timeout_s=0) is None  # still being written
    growing.write_bytes(data)
    frame = eventually(lambda: camera.capture(timeout_s=0.05))
    assert frame.original.data == data
    assert camera.capture(timeout_s=0) is None
    seen.add(frame.source)
    again = camera_of({"kind": "folder", "path": str(tmp_path), "settle_s": 0}, seen=seen.__contains__)
    again.open()
    with pytest.raises(CameraEnded):
        again.capture(timeout_s=0)
    growing.unlink()
    tmp_path.rename(tmp_path.with_name("gone"))
    with pytest.raises(CameraError, match="cannot be read"):
        camera.capture(timeout_s=0)


def test_a_film_is_taken_to_its_end_and_goes_on_after_a_restart(tmp_path, picture):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for number in range(6):
        writer.write(picture(number))
    writer.release()
    camera = camera_of({"kind": "video", "path": str(path), "every": 2, "pixel_size_um": 0.2})
    camera.open()
    frames = [camera.capture(timeout_s=1) for _ in range(3)]
    with pytest.raises(CameraEnded):
        camera.capture(timeout_s=1)
    camera.close()
    assert [frame.pixel_size_um for frame in frames] == [0.2] * 3
    assert float(np.abs(frames[1].image.astype(int) - picture(2)).mean()) < 8
    later = camera_of({"kind": "video", "path": str(path), "every": 2}, seen={frames[0].source}.__contains__)
    later.open()
    assert later.capture(timeout_s=1).source == frames[1].source
    later.close()
    path.write_bytes(b"no film")
    with pytest.raises(CameraError, match="FFmpeg"):
        camera.open()
    text = tmp_path / "text.jpg"
    text.write_text("FFmpeg takes this for a film of no pictures\n" * 50)
    empty = camera_of({"kind": "video", "path": str(text)})
    empty.open()
    with pytest.raises(CameraError, match="holds no picture") as caught:
        empty.capture(timeout_s=1)
    assert not isinstance(caught.value, CameraEnded)
    empty.close()


def test_a_stream_gives_pictures_and_its_end_is_noticed(picture):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number in range(40):
                part = encoded(picture(number))
                self.wfile.write(
                    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(part)
                )
                self.wfile.write(part + b"\r\n")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/?key=secret"
        camera = camera_of({"kind": "stream", "url": url, "timeout_s": 5})
        assert "secret" not in camera.description
        camera.open()
        shapes = []

        def watch():
            while True:
                frame = camera.capture(timeout_s=2)
                shapes.extend([frame.image.shape] if frame else [])

        with pytest.raises(CameraError, match="stopped giving pictures"):
            watch()
        camera.close()
        server.shutdown()
    assert set(shapes) <= {(240, 320, 3)}
    missing = camera_of({"kind": "stream", "url": url, "timeout_s": 2})
    with pytest.raises(CameraError, match="check that the camera is on"):
        missing.open()


def test_missing_cameras_and_wrong_kinds_are_named(tmp_path):
    with pytest.raises(CameraError, match=r"camera\.index"):
        camera_of({"kind": "device", "index": 99}).open()
    with pytest.raises(CameraError, match=r"camera\.path"):
        camera_of({"kind": "folder", "path": str(tmp_path / "none")}).open()
    with pytest.raises(CameraError, match="cannot be found"):
        camera_of({"kind": "video", "path": str(tmp_path / "none.mp4")}).open()
    with pytest.raises(SettingsError, match="hologram"):
        camera_of({"kind": "hologram"})
    assert set(camera_kinds()) >= {"device", "stream", "video", "folder", "simulated"}


def test_the_gate_passes_good_fields_and_names_what_is_wrong_with_others():
    gate = QualityGate(QualitySettings())
    passed = 0
    for number, patient in enumerate(population(12, seed=8)):
        verdict = gate.judge(Microscope(patient, seed=number).capture().image)
        passed += verdict.accepted
        assert 0 < verdict.quality.foreground < 1
        blank = Microscope(patient, seed=number, faults=Faults(blank=1)).capture()
        assert {fault.code for fault in gate.judge(blank.image).faults} & {"blank", "too_bright"}
        lost = Microscope(patient, seed=number, faults=Faults(out_of_focus=1)).capture()
        assert "out_of_focus" in {fault.code for fault in gate.judge(lost.image).faults}
    assert passed == 12
    microscope = Microscope(population(1, seed=1)[0], seed=1)
    first, again = microscope.capture().image, microscope.capture().image
    microscope.next_field()
    assert gate.judge(first).accepted
    assert [fault.code for fault in gate.judge(again).faults] == ["near_duplicate"]
    assert gate.judge(microscope.capture().image).accepted
    gate.forget()
    assert gate.judge(again).accepted
    codes = {fault.code for fault in gate.judge(np.zeros((240, 320, 3), np.uint8)).faults}
    assert codes >= {"too_dark", "saturated", "blank"}
    assert "too_bright" in {fault.code for fault in gate.judge(np.full((240, 320, 3), 255, np.uint8)).faults}
    assert [fault.code for fault in gate.judge(np.zeros((10, 10, 3), np.uint8)).faults] == ["too_small"]
    off = QualityGate(QualitySettings(enabled=False)).judge(np.zeros((240, 320, 3), np.uint8))
    assert off.accepted
    assert "blank" in off.quality.flags


def test_a_slide_label_is_read_and_a_smear_is_not_taken_for_one():
    code = cv2.QRCodeEncoder.create().encode("HL1:ACC-2026.0042:STAT")
    code = cv2.resize(code, None, fx=7, fy=7, interpolation=cv2.INTER_NEAREST)
    picture = np.full((480, 640), 235, np.uint8)
    picture[120 : 120 + code.shape[0], 220 : 220 + code.shape[1]] = np.maximum(code, 25)
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D((320, 240), 12, 1), (640, 480), borderValue=235)
    reader = LabelReader()
    label = reader.read(cv2.cvtColor(cv2.GaussianBlur(turned, (0, 0), 1.2), cv2.COLOR_GRAY2BGR))
    assert (label.case, label.priority) == ("ACC-2026.0042", "stat")
    assert reader.read(Microscope(population(1, seed=2)[0]).capture().image) is None
    assert parse_label("HL1:Jane Doe") is None
    assert parse_label("https://example.org") is None


def test_encodings_keep_the_picture_and_fit_a_limit(picture):
    image = picture(1)
    for form in ("png", "webp"):
        out = encode_frame(RawFrame(image), EncodingSettings(format=form, quality=100))
        assert np.array_equal(cv2.imdecode(np.frombuffer(out.data, np.uint8), cv2.IMREAD_COLOR), image)
    jpeg = encode_frame(RawFrame(image), EncodingSettings())
    assert jpeg.encoding == "jpeg"
    smaller = encode_within(encoded(image, ".png"), limit_bytes=len(jpeg.data))
    assert len(smaller.data) <= len(jpeg.data)
    with pytest.raises(EncodingFailed, match="max_packet_size"):
        encode_within(jpeg.data, limit_bytes=500)


def test_the_case_survives_a_restart_and_names_nobody(tmp_path):
    book = CaseBook(tmp_path)
    assert book.current is None
    with pytest.raises(CaseRefused, match="accession code"):
        book.start("Jane Doe")
    book.start("ACC-1", priority="stat")
    other = CaseBook(tmp_path)
    assert (other.current.code, other.current.priority) == ("ACC-1", "stat")
    other.start("ACC-2")
    assert book.current.code == "ACC-2"  # another process wrote it
    book.stop()
    assert other.current is None
    (tmp_path / "case.json").write_text("{broken")
    assert book.current is None
