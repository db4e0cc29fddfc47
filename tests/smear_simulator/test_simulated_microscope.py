"""The simulated microscope behaves as a microscope: a stage, a focus, an exposure, and the truth."""

import itertools
import time

import cv2
import numpy as np
import pytest

from smear_simulator import (
    CLASSES,
    Faults,
    Microscope,
    Patient,
    SettingError,
    UnknownDiseaseError,
    population,
)

STILL = Faults(dust=0, defocus_um=0, drift_um=0, exposure=0)


def sharpness(image: np.ndarray) -> float:
    # of the tissue, not of the sensor's noise
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32), (0, 0), 3)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_the_same_seed_gives_the_same_frames():
    patient = Patient.sample("AML", seed=3)
    first, again = Microscope(patient, seed=8), Microscope(patient, seed=8)
    for _ in range(3):
        assert np.array_equal(first.capture().image, again.capture().image)
        first.next_field()
        again.next_field()


def test_going_back_shows_the_same_tissue_with_other_noise():
    microscope = Microscope(Patient.sample("CML", seed=5), faults=STILL)
    here = microscope.capture()
    microscope.next_field()
    elsewhere = microscope.capture()
    microscope.move_to(x_um=here.stage_x_um, y_um=here.stage_y_um)
    back = microscope.capture()
    assert [(cell.kind, cell.box) for cell in back.truth.cells] == [(c.kind, c.box) for c in here.truth.cells]
    assert not np.array_equal(back.image, here.image)
    assert difference(back.image, here.image) < 6 < difference(elsewhere.image, here.image)


def test_a_small_move_shifts_the_field():
    microscope = Microscope(Patient.sample("healthy", seed=2), faults=STILL)
    before = microscope.capture()
    microscope.move_to(x_um=before.stage_x_um + 5.0, y_um=before.stage_y_um)
    after = microscope.capture()
    shift = round(5.0 / before.pixel_size_um)
    moved = after.truth.white_cell_mask[:, :-shift] > 0
    assert np.mean(moved == (before.truth.white_cell_mask[:, shift:] > 0)) > 0.99


def test_defocus_blurs_on_both_sides_and_is_told():
    microscope = Microscope(Patient.sample("ALL", seed=4), faults=STILL)
    seen = {}
    for focus in (-6.0, 0.0, 2.0, 6.0):
        microscope.focus_um = focus
        field = microscope.capture()
        seen[focus] = sharpness(field.image)
        assert field.focus_um == focus
        assert field.truth.out_of_focus == (abs(focus) > 3)
    assert seen[0.0] > seen[2.0] > seen[6.0]
    assert seen[-6.0] == pytest.approx(seen[6.0], rel=0.2)


def test_exposure_scales_brightness():
    microscope = Microscope(Patient.sample("CLL", seed=6), faults=STILL)
    microscope.exposure_ms = 5.0
    dark = microscope.capture().image.mean()
    microscope.exposure_ms = 10.0
    assert microscope.capture().image.mean() == pytest.approx(2 * dark, rel=0.05)


def test_another_slide_is_another_patient():
    microscope = Microscope(Patient.sample("ALL", seed=41))
    one = microscope.capture()
    microscope.change_slide(Patient.sample("CML", seed=42))
    other = microscope.capture()
    assert (one.patient_id, one.truth.disease) == ("SIM-000041", "ALL")
    assert (other.patient_id, other.truth.disease) == ("SIM-000042", "CML")


@pytest.mark.parametrize(
    ("width", "height", "pixel"), [(640, 480, 0.125), (333, 217, 0.2), (1280, 960, 0.07)]
)
def test_truth_fits_the_frame(width, height, pixel):
    field = Microscope(
        Patient.sample("AML", seed=9), width=width, height=height, pixel_size_um=pixel
    ).capture()
    truth = field.truth
    assert field.image.shape == (height, width, 3)
    assert field.image.dtype == np.uint8
    for mask in (truth.nucleus_mask, truth.white_cell_mask, truth.red_cell_mask):
        assert mask.shape == (height, width)
        assert set(np.unique(mask)) == {0, 255}
    assert not np.any((truth.nucleus_mask > 0) & (truth.white_cell_mask == 0))
    assert not np.any((truth.red_cell_mask > 0) & (truth.white_cell_mask > 0))
    for cell in truth.cells:
        x, y, w, h = cell.box
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
    grey = cv2.cvtColor(field.image, cv2.COLOR_BGR2GRAY)
    assert grey[truth.nucleus_mask > 0].mean() < grey[truth.red_cell_mask > 0].mean()


@pytest.mark.parametrize(
    ("disease", "kinds", "absent"),
    [
        (
            "healthy",
            {"segmented_neutrophil", "lymphocyte"},
            {"lymphoblast", "myeloblast", "smudge_cell", "myelocyte"},
        ),
        ("ALL", {"lymphoblast"}, {"myeloblast", "smudge_cell", "cll_lymphocyte", "myelocyte"}),
        ("AML", {"myeloblast", "monoblast"}, {"lymphoblast", "smudge_cell", "myelocyte"}),
        ("CLL", {"cll_lymphocyte", "smudge_cell"}, {"lymphoblast", "myeloblast", "myelocyte"}),
        (
            "CML",
            {"myelocyte", "metamyelocyte", "band_neutrophil", "basophil", "promyelocyte"},
            {"lymphoblast", "cll_lymphocyte", "smudge_cell"},
        ),
    ],
)
def test_each_class_shows_its_own_cells(disease, kinds, absent):
    seen = set()
    for seed in range(8):
        microscope = Microscope(Patient.sample(disease, seed=seed))
        for _ in range(2):
            found = [cell.kind for cell in microscope.capture().truth.white_cells]
            assert len(found) >= 3
            seen.update(found)
            microscope.next_field()
    assert kinds <= seen
    assert not absent & seen


def test_a_bad_day_gives_blank_and_lost_fields():
    microscope = Microscope(Patient.sample("healthy", seed=1), faults=Faults(blank=1.0))
    field = microscope.capture()
    assert field.truth.blank
    assert field.truth.cells == ()
    assert field.image.std(axis=(0, 1)).max() < 15
    good = Microscope(Patient.sample("healthy", seed=1), faults=STILL).capture()
    lost = Microscope(Patient.sample("healthy", seed=1), faults=Faults(out_of_focus=1.0)).capture()
    assert lost.truth.out_of_focus
    assert sharpness(lost.image) < 0.5 * sharpness(good.image)
    dirty = Faults(dust=1.0, bubble=1.0, defocus_um=0, drift_um=0, exposure=0)
    spoiled = Microscope(Patient.sample("healthy", seed=1), faults=dirty).capture()
    assert spoiled.truth.cells == good.truth.cells
    assert difference(spoiled.image, good.image) > 1
    usual = [Microscope(patient).capture().truth for patient in population(20, seed=2)]
    assert not any(truth.blank or truth.out_of_focus for truth in usual)


def test_population_is_balanced_opaque_and_seeded():
    people = population(50, seed=7)
    assert people == population(50, seed=7)
    assert people != population(50, seed=8)
    assert {disease: sum(p.disease == disease for p in people) for disease in CLASSES} == dict.fromkeys(
        CLASSES, 10
    )
    assert len({p.patient_id for p in people}) == 50
    assert all(name not in p.patient_id for p, name in itertools.product(people, CLASSES))


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: Patient.sample("flu", seed=1), UnknownDiseaseError, "healthy, ALL, AML, CLL, CML"),
        (lambda: Patient.sample("ALL", seed=-1), SettingError, "zero or more"),
        (lambda: population(0, seed=1), SettingError, "1 to 1,000,000"),
        (lambda: Microscope(Patient.sample("ALL", seed=1), width=10), SettingError, "64 to 4096"),
        (lambda: Microscope(Patient.sample("ALL", seed=1), pixel_size_um=0), SettingError, "0.04 to 1"),
        (lambda: Faults(dust=1.5), SettingError, "between 0 and 1"),
        (lambda: Faults(drift_um=-1), SettingError, "zero or more"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()


def test_fields_come_fast_enough_for_a_camera():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        microscope = Microscope(Patient.sample("AML", seed=12))
        microscope.capture()
        start = time.process_time()
        for _ in range(12):
            microscope.next_field()
            microscope.capture()
        rate = 12 / (time.process_time() - start)
    finally:
        cv2.setNumThreads(threads)
    assert rate >= 10  # a guard that holds on a busy machine; an idle core gives more than 20
