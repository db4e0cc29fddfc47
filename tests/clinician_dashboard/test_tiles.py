"""Thumbnails and tiles: the same picture as the frame's own, made once, within a bound, and never without leave."""

import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from clinician_dashboard.tiles import pictures as pictures_module
from clinician_dashboard.tiles.cache import Cache
from clinician_dashboard.tiles.errors import NoSuchTile, PictureError
from clinician_dashboard.tiles.pictures import Pictures
from clinician_dashboard.tiles.pyramid import TILE, cut, is_large, levels_of, size_at, thumbnail

WIDTH, HEIGHT = 2301, 1799


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(3)
    small = rng.integers(120, 240, (HEIGHT // 60, WIDTH // 60, 3), dtype=np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def encoded(field, kind):
    held = io.BytesIO()
    Image.fromarray(field).save(held, kind, **({"lossless": True, "method": 0} if kind == "WEBP" else {}))
    return held.getvalue()


@pytest.fixture(scope="module")
def image(field):
    return encoded(field, "JPEG")


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_tiles_of_a_level_together_are_the_frame_at_that_size(field, kind):
    content = encoded(field, kind)
    assert levels_of(WIDTH, HEIGHT) == 4
    for level in range(4):
        width, height = size_at(level, width=WIDTH, height=HEIGHT)
        whole = np.zeros((height, width, 3), dtype=int)
        for column, row, tile in cut(content, level):
            part = decoded(tile)
            assert part.shape[:2] == (min(TILE, height - row * TILE), min(TILE, width - column * TILE))
            whole[row * TILE : row * TILE + TILE, column * TILE : column * TILE + TILE] = part
        expected = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(whole - expected).mean() < 4  # JPEG, twice
    assert max(width, height) <= TILE
    with pytest.raises(NoSuchTile):
        list(cut(content, 4))


def test_a_thumbnail_is_the_frame_made_small_and_never_larger(field, image):
    small = decoded(thumbnail(image, 320))
    assert small.shape == (250, 320, 3)
    assert np.abs(small - cv2.resize(field, (320, 250), interpolation=cv2.INTER_AREA)).mean() < 6
    assert decoded(thumbnail(thumbnail(image, 100), 640)).shape[1] == 100


@pytest.mark.parametrize("broken", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_picture_is_said_to_be_none(broken, image):
    for content in (broken, image[: len(image) // 3]):
        with pytest.raises(PictureError):
            thumbnail(content, 160)
        with pytest.raises(PictureError):
            list(cut(content, 0))


def test_only_frames_over_four_megapixels_are_tiled():
    assert not is_large(2000, 2000)
    assert is_large(2001, 2000)
    assert not is_large(60_000, 60_000)  # its pixels would not fit into memory


def test_a_level_is_cut_once_though_many_ask_at_the_same_time(tmp_path, image, monkeypatch):
    source = tmp_path / "frame"
    source.write_bytes(image)
    cuts = []
    monkeypatch.setattr(pictures_module, "cut", lambda *given: cuts.append(given[1]) or cut(*given))
    pictures = Pictures(tmp_path / "cache", limit_bytes=10_000_000)
    pictures.start()
    got = []

    def ask(column):
        got.append(pictures.tile("ab" * 32, source, level=1, column=column, row=0))

    threads = [threading.Thread(target=ask, args=(number % 3,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 12
    assert cuts == [1]
    source.unlink()
    again = Pictures(tmp_path / "cache", limit_bytes=10_000_000)
    again.start()
    assert again.tile("ab" * 32, source, level=1, column=2, row=0) in got  # what the last run made is kept
    with pytest.raises(PictureError, match="no longer in the record"):
        again.tile("ab" * 32, source, level=0, column=0, row=0)


def test_the_cache_stays_within_its_bound_and_keeps_what_is_used(tmp_path, eventually):
    cache = Cache(tmp_path / "cache", limit_bytes=100_000)
    cache.start()
    cache.put("wanted.jpg", b"w" * 998 + b"\xff\xd9")
    for number in range(400):
        cache.put(f"{number % 256:02x}/{number}.jpg", b"x" * 998 + b"\xff\xd9")
        assert cache.get("wanted.jpg")
    eventually(lambda: not list((tmp_path / "cache").glob("gone-*")))
    assert 20_000 < cache.bytes_on_disk <= 101_000
    assert cache.get("00/0.jpg") is None
    torn = tmp_path / "cache" / "young" / "wanted.jpg"
    torn.write_bytes(b"w" * 400)
    (tmp_path / "cache" / "old" / "wanted.jpg").unlink(missing_ok=True)
    assert cache.get("wanted.jpg") is None


def test_a_cache_that_cannot_be_written_costs_speed_only(tmp_path, image, caplog):
    (tmp_path / "cache").write_text("in the way")
    source = tmp_path / "frame"
    source.write_bytes(image)
    pictures = Pictures(tmp_path / "cache", limit_bytes=1_000_000)
    pictures.start()
    for _ in range(2):
        assert decoded(pictures.thumbnail("ab" * 32, source, 160)).shape[1] == 160
    assert len([one for one in caplog.messages if "cannot be kept" in one]) == 1


def test_the_pages_ask_for_small_pictures_and_a_browser_keeps_them(
    embedded_broker, tmp_path, desk, far_side, make, eventually, image
):
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame(image=image, width=WIDTH, height=HEIGHT)
        small = make.frame()
        far.send(frame, make.diagnosis(frame), small, make.diagnosis(small))
        eventually(lambda: running.summary()["recorded"] == 2)
        base = f"/api/v1/frames/{frame.frame_id}"
        page = running.http.get("/cases/ward/HL-0001").text
        assert f'src="{base}/thumbnail?width=640"' in page
        assert page.count("data-tiled") == 1
        assert f'src="{base}/thumbnail?width=160"' in running.http.get("/").text
        for path, width in (("thumbnail?width=160", 160), ("tiles/1/2/1", 127), ("tiles/0/0/0", TILE)):
            answer = running.http.get(f"{base}/{path}").raise_for_status()
            assert decoded(answer.content).shape[1] == width
            assert "immutable" in answer.headers["cache-control"]
            known = {"If-None-Match": answer.headers["etag"]}
            assert running.http.get(f"{base}/{path}", headers=known).status_code == 304
        for path in ("tiles/0/5/0", "tiles/9/0/0", "tiles/0/256/0", "tiles/0/-1/0", "thumbnail?width=161"):
            assert running.http.get(f"{base}/{path}").status_code in (404, 422), path
        assert running.http.get(f"/api/v1/frames/{'0' * 32}/thumbnail").status_code == 404
        assert (tmp_path / "desk" / "cache" / "pictures").is_dir()
