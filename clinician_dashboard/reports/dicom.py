"""A frame as a DICOM VL Microscopic Image (PS3.3, A.32.2), made by a pure function.

The picture of a baseline JPEG with subsampled colour keeps its bytes; any other picture is decoded and stored uncompressed. The patient's module holds the
case code and says that the identity was removed; slide and specimen are named by the case code too, since no other name of them is known. A simulated frame says SIMULATED in the patient's name, the series' description and
the comments. Identifiers are UUIDs under 2.25 (PS3.5, B.2) made of names, so the same frame gives the same identifiers, and a
structured report (`clinician_dashboard.reports.dicom_sr`) can name them without the files.
"""

import io
import uuid
from datetime import UTC, datetime
from typing import Any

from clinician_dashboard.reports.case_report import ReportFrame
from clinician_dashboard.reports.errors import MissingPart, ReportError
from clinician_dashboard.reports.vocabulary import LOCAL, SLIDE
from clinician_dashboard.web.words import INTENDED_USE

MEDIA_TYPE = "application/dicom"
MOST_PIXELS = 64_000_000
_BASELINE = b"\xff\xc0"

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{LOCAL}/dicom")
_IMPLEMENTATION = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"


def dicom_image(
    frame: ReportFrame, image: bytes, *, site: str, code: str, software: str, opened_at: datetime
) -> bytes:
    """Return a frame as a DICOM file (PS3.10).

    Args:
        frame: The frame; a number of 0 leaves its place in the case open.
        image: Its image as it was captured.
        site: Whose case code it is.
        code: The case code, as accession number and as the patient's pseudonym.
        software: This program's version.
        opened_at: The case's first capture, which dates the study.

    Raises:
        MissingPart: If pydicom or Pillow is not installed.
        ReportError: If the image cannot be read.
    """
    try:
        from pydicom import dcmwrite  # noqa: PLC0415 - only this format needs it
        from pydicom.dataset import FileMetaDataset  # noqa: PLC0415
        from pydicom.uid import UID, VLMicroscopicImageStorage  # noqa: PLC0415
    except ImportError:
        raise MissingPart("DICOM needs the package pydicom: install the extra hemolink[reports]") from None
    dataset = describe(frame, site=site, code=code, software=software, opened_at=opened_at)
    _add_pixels(dataset, image)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLMicroscopicImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_transfer_syntax(dataset))
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "HEMOLINK"
    dataset.file_meta = meta
    held = io.BytesIO()
    dcmwrite(held, dataset, enforce_file_format=True)
    return held.getvalue()


def describe(frame: ReportFrame, *, site: str, code: str, software: str, opened_at: datetime) -> Any:
    """Return a frame's data set without its pixels; arguments as of `dicom_image`.

    Raises:
        ImportError: If pydicom is not installed.
    """
    from pydicom.dataset import Dataset  # noqa: PLC0415
    from pydicom.uid import VLMicroscopicImageStorage  # noqa: PLC0415

    simulated = frame.simulated == "SIMULATED"  # the frame, whatever model read it
    moment = frame.captured_at.astimezone(UTC)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    began = opened_at.astimezone(UTC)
    dataset = Dataset()
    dataset.SOPClassUID = VLMicroscopicImageStorage
    dataset.SOPInstanceUID = uid_of("instance", frame.frame_id)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "SIMULATED^SMEAR" if simulated else ""
    dataset.PatientID = code
    dataset.IssuerOfPatientID = site
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Never held: the case code is an opaque accession"
    dataset.StudyInstanceUID = uid_of("study", f"{site}/{code}")
    dataset.StudyDate, dataset.StudyTime = began.strftime("%Y%m%d"), began.strftime("%H%M%S.%f")
    dataset.StudyID = "1"
    dataset.AccessionNumber = code if len(code) <= 16 else ""  # noqa: PLR2004 - the longest of its type (SH)
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Blood smear"
    dataset.Modality = "GM"
    dataset.SeriesInstanceUID = uid_of("series", f"{site}/{code}/{frame.device}")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "SIMULATED blood smear" if simulated else "Blood smear"
    dataset.Manufacturer = "Hemolink"
    dataset.StationName = frame.device[:16]
    dataset.InstitutionName = site
    dataset.SoftwareVersions = software
    dataset.InstanceNumber = frame.number or None
    dataset.PatientOrientation = ""
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.AcquisitionDateTime = f"{date}{time}+0000"
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImageComments = f"{'SIMULATED. ' if simulated else ''}{INTENDED_USE}"
    dataset.BurnedInAnnotation = "NO"
    dataset.AcquisitionContextSequence = []
    _add_specimen(dataset, site=site, code=code)
    if frame.pixel_size_um:
        dataset.PixelSpacing = [
            f"{frame.pixel_size_um / 1000:.8g}"
        ] * 2  # rows, columns; millimetres on the slide
    return dataset


def _add_specimen(dataset: Any, *, site: str, code: str) -> None:
    """Say what was imaged (PS3.3, C.7.6.22), which is required of an image of a specimen; the preparation is not known."""
    from pydicom.dataset import Dataset  # noqa: PLC0415

    def issuer() -> Any:
        made = Dataset()
        made.LocalNamespaceEntityID = site
        return made

    slide, specimen = Dataset(), Dataset()
    slide.CodeValue, slide.CodingSchemeDesignator, slide.CodeMeaning = SLIDE.code, SLIDE.table, SLIDE.display
    specimen.SpecimenIdentifier = code
    specimen.IssuerOfTheSpecimenIdentifierSequence = [issuer()]
    specimen.SpecimenUID = uid_of("specimen", f"{site}/{code}")
    specimen.SpecimenShortDescription = "Blood smear"
    specimen.SpecimenPreparationSequence = []
    dataset.ContainerIdentifier = code
    dataset.IssuerOfTheContainerIdentifierSequence = [issuer()]
    dataset.ContainerTypeCodeSequence = [slide]
    dataset.SpecimenDescriptionSequence = [specimen]


def _add_pixels(dataset: Any, image: bytes) -> None:
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415
    except ImportError:
        raise MissingPart("DICOM needs the package Pillow: install the extra hemolink[reports]") from None
    from pydicom.encaps import encapsulate  # noqa: PLC0415

    try:
        with Image.open(io.BytesIO(image), formats=("JPEG", "PNG", "WEBP")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ReportError(f"the picture is larger than {MOST_PIXELS // 1_000_000} million pixels")
            opened.load()  # a damaged file is no picture, though its bytes could be passed on
            lossy = opened.format in ("JPEG", "WEBP")
            kept = opened.format == "JPEG" and opened.mode == "RGB" and _is_baseline(opened, image)
            size = opened.size
            pixels = b"" if kept else opened.convert("RGB").tobytes()
            raw = len(opened.getbands()) * size[0] * size[1]
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        raise ReportError(
            "the frame's picture cannot be read: 'hemolink dashboard verify' says more"
        ) from None
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422" if kept else "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Columns, dataset.Rows = size
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "01" if lossy else "00"
    if lossy:
        dataset.LossyImageCompressionRatio = f"{raw / len(image):.4g}"
        if kept:
            dataset.LossyImageCompressionMethod = "ISO_10918_1"
    if kept:
        dataset.PixelData = encapsulate([image])
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"


def _is_baseline(opened: Any, image: bytes) -> bool:
    """Whether the bytes are what YBR_FULL_422 stands for: baseline, luminance with colour at lower resolution.

    The VL Image module (PS3.3, C.8.12.1) has no name for colour differences at full resolution; Adobe's transform 0 is RGB.
    """
    from PIL.JpegImagePlugin import get_sampling  # noqa: PLC0415

    return (
        _BASELINE in image
        and not opened.info.get("progressive")
        and opened.info.get("adobe_transform", 1) == 1
        and get_sampling(opened) in (1, 2)
    )


def _transfer_syntax(dataset: Any) -> str:
    from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit  # noqa: PLC0415

    return str(JPEGBaseline8Bit if dataset["PixelData"].is_undefined_length else ExplicitVRLittleEndian)


def uid_of(kind: str, name: str) -> str:
    """Return the identifier of something with a name."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{kind}/{name}').int}"
