"""What the shipped packages promise of themselves, and whether fresh simulated patients bear it out. All SIMULATED."""

import json

import pytest
from click.testing import CliRunner

from model_zoo.card import GuardMetrics
from model_zoo.catalogue import SHIPPED
from model_zoo.commands import model
from model_zoo.package import ModelPackage

shipped = pytest.mark.parametrize("name", ["resnet34-simulated", "densenet121-simulated"])
CERTAINLY_OUTSIDE = (
    "blank",
    "blurred, sigma 4",
    "blurred, sigma 8",
    "out of focus",
    "magnification x0.5",
    "magnification x2",
)


def hold(found: GuardMetrics) -> None:
    assert "SIMULATED" in found.statement
    assert found.engine.startswith("openvino")
    assert found.calibration_error.value <= 0.024
    assert abs(found.set_coverage.value - found.set_target) <= 0.03
    assert found.acute_missed.value <= 0.02
    rows = {row.kind: row for row in found.outside}
    for prefix in CERTAINLY_OUTSIDE:
        matching = [row for kind, row in rows.items() if kind.startswith(prefix)]
        assert matching, prefix
        assert all(row.auroc.value >= 0.95 for row in matching), prefix


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


@pytest.mark.slow
@pytest.mark.timeout(1800)
@shipped
def test_fresh_patients_bear_it_out(name):
    arguments = ["guard-check", "--model", name, "--patients", "600", "--strange", "40", "--quiet", "--json"]
    done = CliRunner().invoke(model, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.strip().splitlines()[-1])[name]
    hold(GuardMetrics.model_validate(found))
