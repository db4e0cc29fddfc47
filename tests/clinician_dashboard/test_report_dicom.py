"""Frames as DICOM, judged by pydicom and, where it is installed, by dciodvfy (Debian's dicom3tools)."""

import io
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from clinician_dashboard.reports.case_report import ReportFrame
from clinician_dashboard.reports.dicom import dicom_image
from clinician_dashboard.reports.errors import ReportError

START = datetime(2026, 11, 22, 11, 59, tzinfo=UTC)
FRAME = ReportFrame(
    number=3,
    frame_id="0a" * 16,
    device="scope-1",
    captured_at=datetime(2026, 11, 22, 12, 0, 1, 250_000, tzinfo=UTC),
    state="report",
    prediction="AML",
    probabilities={},
    reasons=(),
    flags=(),
    simulated="SIMULATED",
    encoding="jpeg",
    width=161,
    height=121,
    pixel_size_um=0.125,
    image_sha256="0" * 64,
    worker="worker-1",
    weights_sha256="ab" * 32,
    activation=(),
)


def picture():
    made = np.random.default_rng(5).integers(180, 240, (121, 161, 3), dtype=np.uint8)
    return cv2.circle(made, (80, 60), 30, (140, 60, 110), -1)


def encoded(kind):
    held = io.BytesIO()
    options = {"progressive": {"progressive": True}, "jpeg444": {"subsampling": 0}}.get(kind, {})
    source = Image.fromarray(picture()[..., ::-1])
    if kind == "grey":
        source = source.convert("L")
    form = {"png": "PNG", "webp": "WEBP"}.get(kind, "JPEG")
    source.save(held, form, **options)
    return held.getvalue()


def made(image, **changes):
    return dicom_image(
        replace(FRAME, **changes), image, site="ward", code="HL-0001", software="0.1.0", opened_at=START
    )


KINDS = ("jpeg", "jpeg444", "progressive", "grey", "png", "webp")


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_reads_back_as_the_same_picture(kind):
    image = encoded(kind)
    file = pydicom.dcmread(io.BytesIO(made(image)))
    expected = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(int)
    if kind == "jpeg":
        assert file.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
        (inside,) = pydicom.encaps.generate_frames(file.PixelData, number_of_frames=1)
        assert inside.rstrip(b"\0") == image.rstrip(b"\0")  # not a bit was encoded anew
    else:
        assert np.array_equal(file.pixel_array.astype(int), expected)
    assert (file.Columns, file.Rows) == (161, 121)
    assert [float(one) for one in file.PixelSpacing] == [0.000125, 0.000125]


def test_it_names_the_case_alone_and_says_simulated():
    file = pydicom.dcmread(io.BytesIO(made(encoded("jpeg"))))
    assert (file.PatientID, file.AccessionNumber, str(file.PatientName)) == (
        "HL-0001",
        "HL-0001",
        "SIMULATED^SMEAR",
    )
    assert file.PatientIdentityRemoved == "YES"
    assert file.SeriesDescription.startswith("SIMULATED")
    assert "Decision support, not a medical device." in file.ImageComments
    real = pydicom.dcmread(io.BytesIO(made(encoded("jpeg"), simulated="SIMULATED MODEL")))
    assert "SIMULATED" not in str(real)
    assert str(real.PatientName) == ""
    assert real.SOPInstanceUID == file.SOPInstanceUID
    assert made(encoded("png")) == made(encoded("png"))


@pytest.mark.parametrize(
    "broken", [b"", b"no image", encoded("jpeg")[:300], b"\x89PNG\r\n\x1a\n" + bytes(50)]
)
def test_a_damaged_picture_is_refused(broken):
    with pytest.raises(ReportError, match="cannot be read"):
        made(broken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes", [{}, {"pixel_size_um": None, "number": 0, "device": "d" * 48, "simulated": ""}]
)
def test_dciodvfy_finds_no_error(kind, changes, tmp_path):
    program = shutil.which("dciodvfy")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("dciodvfy is not installed: apt-get install dicom3tools")
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    file = tmp_path / "frame.dcm"
    file.write_bytes(made(encoded(kind), **changes))
    said = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    assert "VLMicroscopicImage" in said.stdout + said.stderr
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []
