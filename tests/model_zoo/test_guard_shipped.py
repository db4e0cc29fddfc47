"""What the shipped packages promise of themselves, and whether fresh simulated patients bear it out. All SIMULATED."""

import json

import pytest
from click.testing import CliRunner

from model_zoo.card import GuardMetrics
from model_zoo.catalogue import SHIPPED
from model_zoo.commands import model
from model_zoo.outside import DEFOCUS_UM, MAGNIFICATIONS, SIGMAS
from model_zoo.package import ModelPackage

shipped = pytest.mark.parametrize("name", ["resnet34-simulated", "densenet121-simulated"])
OUTSIDE = {"blank", *(f"blurred, sigma {sigma} of 640 pixels" for sigma in SIGMAS)}
OUTSIDE |= {f"out of focus by {defocus} micrometres" for defocus in DEFOCUS_UM}
OUTSIDE |= {f"magnification x{factor:g}" for factor in MAGNIFICATIONS}


def hold(found: GuardMetrics) -> None:
    assert "SIMULATED" in found.statement
    assert found.engine.startswith("openvino")
    assert found.calibration_error.value <= 0.024
    assert abs(found.set_coverage.value - found.set_target) <= 0.03
    assert found.acute_missed.value <= 0.02
    apart = {row.kind: row.auroc.value for row in found.outside}
    assert apart.keys() >= OUTSIDE
    assert {kind: value for kind, value in apart.items() if value < 0.95} == {}


@shipped
def test_the_card_holds_what_was_asked_of_it(name):
    package = ModelPackage.load(SHIPPED / name)
    card = package.card
    hold(card.guard)
    (real,) = [row for row in card.guard.outside if row.kind == "frames of bccd"]
    assert real.auroc.low >= 0.95
    assert real.let_in.value == 0
    assert card.acute.shown
    assert card.acute.upper_bound <= 0.02
    assert card.calibration.set_method.endswith("by class")
    assert card.expectation.inside.scope == "same sources, new patients"
    assert card.training_data.classes == package.labels


def test_all_that_is_shipped_stays_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 60_000_000


@shipped
def test_a_few_fresh_patients_already_tell_blur_and_blank_fields_apart(name):
    found = check(name, patients=50, strange=6)
    for row in found.outside:
        if row.kind.startswith(("blank", "blurred", "out of focus")):
            assert row.auroc.value >= 0.95, row.kind
            assert row.let_in.value == 0, row.kind


@pytest.mark.slow
@pytest.mark.timeout(1800)
@shipped
def test_fresh_patients_bear_it_out(name):
    hold(check(name, patients=600, strange=100))


def check(name: str, *, patients: int, strange: int) -> GuardMetrics:
    arguments = ["guard-check", "--model", name, "--patients", str(patients), "--strange", str(strange)]
    done = CliRunner().invoke(model, [*arguments, "--quiet", "--json"])
    assert done.exit_code == 0, done.output
    return GuardMetrics.model_validate(json.loads(done.stdout.strip().splitlines()[-1])[name])
