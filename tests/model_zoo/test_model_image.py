"""Untrusted bytes become an image or one clear error, and never cost more than they may."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.errors import ImageError
from model_zoo.image import MAX_PIXELS, decode_image, image_format, image_size
from model_zoo.preprocessing import Preprocessing


def encoded(suffix, *, width=320, height=240):
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height))
    return image, cv2.imencode(suffix, image)[1].tobytes()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_whole_images_are_decoded_to_bgr(suffix):
    image, data = encoded(suffix)
    assert image_format(data) == {".jpg": "jpeg", ".png": "png", ".webp": "webp"}[suffix]
    assert image_size(data) == (320, 240)
    decoded = decode_image(data)
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < 12


def test_a_jpeg_damaged_between_its_markers_is_refused_instead_of_filled_with_grey():
    _, data = encoded(".jpg")
    with pytest.raises(ImageError, match="corrupt"):
        decode_image(data[: len(data) // 2] + b"\xff\xd9")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_images_are_refused(suffix, share):
    _, data = encoded(suffix)
    with pytest.raises(ImageError, match="capture or export the frame again"):
        decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 not an image at all", "not a JPEG, PNG or WebP"),
        (b"\xff\xd8\xff", "no frame header"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "cut short"),
        (b"RIFF\x10\0\0\0WEBPwhat", "not known"),
        (bomb(0, 10), "0 x 10"),
        (bomb(60_000, 60_000), "60000 x 60000"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03", "65535 x 65535"),
    ],
)
def test_what_is_no_image_is_named(data, words):
    with pytest.raises(ImageError, match=words):
        decode_image(data)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="limit"):
        decode_image(bomb(MAX_PIXELS // 1000 + 1, 1000))


def test_a_png_with_a_flipped_bit_is_refused():
    _, data = encoded(".png")
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0x10
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(damaged))


def test_large_jpegs_are_decoded_at_reduced_scale():
    _, data = encoded(".jpg", width=2048, height=1536)
    reduced = decode_image(data, at_least=(224, 224))
    assert reduced.shape == (768, 1024, 3)
    preprocessing = Preprocessing()
    gap = np.abs(preprocessing.prepare(reduced) - preprocessing.prepare(decode_image(data)))
    assert gap.mean() < 0.05


@settings(max_examples=60, deadline=None)
@given(
    head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP"]),
    tail=st.binary(max_size=80),
)
def test_random_bytes_raise_nothing_else(head, tail):
    with pytest.raises(ImageError):
        decode_image(head + tail)


def test_preparation_reorders_scales_and_normalises():
    blue = np.zeros((480, 640, 3), np.uint8)
    blue[:, :, 0] = 255
    prepared = Preprocessing().prepare(blue)
    assert prepared.shape == (3, 224, 224)
    assert prepared.dtype == np.float32
    assert prepared[:, 0, 0] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], abs=1e-5)


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 4), (0, 640, 3)])
def test_arrays_that_are_no_frame_are_refused(shape):
    with pytest.raises(ImageError, match="must be"):
        Preprocessing().prepare(np.zeros(shape, np.uint8))
