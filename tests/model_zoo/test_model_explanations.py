"""Checks of activation maps: they pass where a map follows the network, and fail where it does not."""

import numpy as np
import pytest

from model_zoo.engines import Outputs
from model_zoo.predictor import Prediction
from model_zoo.report.explanation import deletion, nucleus_share
from model_zoo.report.randomisation import (
    balanced,
    label_randomisation,
    randomisation,
    shuffle,
    shuffled_parts,
)
from smear_simulator import Microscope, population

pytestmark = pytest.mark.timeout(300)  # the package made for these tests takes a minute on a loaded machine


def silent(_what, _done, _total):
    pass


def images(count):
    return [Microscope(patient, seed=7).capture().image for patient in population(count, seed=977_040)]


class Bright:
    """A predictor whose answer is how bright the top left quarter is; its map may tell so, or lie."""

    max_batch_size = 8
    labels = ("healthy", "ALL")

    def __init__(self, package, *, honest):
        self.package = self
        self.card = package.card
        self._honest = honest

    def run(self, batch):
        bright = np.asarray([float(part[:, :112, :112].mean()) for part in batch], np.float32)
        logits = np.stack([np.zeros_like(bright), 4 * bright], axis=1)
        return Outputs(logits, np.zeros((len(batch), 1), np.float32), np.zeros((0,), np.float32))

    def infer(self, batch):
        grid = np.zeros((8, 8))
        grid[:4, :4] = 1
        shown = grid if self._honest else grid[::-1, ::-1]
        found = Prediction(
            (0.0, 1.0), "ALL", ("ALL",), "report", (), 0.0, 1.0, tuple(map(tuple, shown.tolist()))
        )
        return [found for _ in batch]


@pytest.mark.parametrize("honest", [True, False])
def test_deletion_and_insertion_tell_a_true_map_from_a_lie(made, honest):
    prepared = [np.zeros((3, 224, 224), np.float32) for _ in range(6)]
    for frame in prepared:
        frame[:, 8:104, 8:104] = 2.0
    found = deletion(Bright(made, honest=honest), prepared, seed=1, progress=silent)
    for key in ("deletion", "insertion"):
        assert found[key]["beats_random"] is honest
        assert found[key]["interval"][0] <= found[key]["better_by"] <= found[key]["interval"][1]


@pytest.mark.torch
def test_shuffling_changes_what_it_should_and_no_more(made):
    from model_zoo.architecture import load_network  # noqa: PLC0415 - torch takes seconds

    network, rng = load_network(made), np.random.default_rng(0)
    for prefixes, _ in shuffled_parts("resnet34").values():
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        parameters = dict(network.named_parameters())
        assert shuffle(network, prefixes, rng) == sum(name.startswith(prefixes) for name in parameters)
        for name, tensor in network.state_dict().items():
            if not name.startswith(prefixes):
                assert tensor.equal(before[name])
            else:
                assert tensor.flatten().sort().values.equal(before[name].flatten().sort().values)
        assert not network.head.weight.equal(before["head.weight"]) or "head." not in prefixes


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["resnet34-simulated", pytest.param("densenet121-simulated", marks=pytest.mark.slow)]
)
def test_the_shipped_maps_pass_on_simulated_smears(serve, name):
    from model_zoo.catalogue import find_package  # noqa: PLC0415

    predictor = serve(find_package(name))
    prepared = [predictor.prepare(image) for image in images(6)]
    found = randomisation(predictor.package, prepared, seed=0, progress=silent)
    counted = [row["shuffled"] for row in found["rows"] if row["counts"]]
    assert counted == ["head", "last stage", "last stage and head", "all weights"]
    assert found["changes"]
    where = nucleus_share(predictor, count=8, seed=5, progress=silent)
    assert where["simulated"]
    nucleus = where["rows"][0]
    assert nucleus["mask"] == "nucleus"
    assert nucleus["heat_inside"] > nucleus["area"]


@pytest.mark.torch
def test_a_densenets_last_block_alone_is_shown_and_does_not_count():
    parts = shuffled_parts("densenet121")
    (alone,) = [prefixes for prefixes, counts in parts.values() if not counts]
    assert alone == ("body.features.denseblock4.", "body.features.norm5.")
    assert "body.features.transition3." in parts["last stage"][0]


@pytest.mark.torch
def test_shuffled_labels_are_learnt_by_heart_and_move_the_maps(serve):
    from model_zoo.catalogue import find_package  # noqa: PLC0415

    predictor = serve(find_package("resnet34-simulated"))
    patients = population(40, seed=977_041)
    prepared = [predictor.prepare(Microscope(patient, seed=7).capture().image) for patient in patients]
    labels = np.asarray([predictor.package.labels.index(patient.disease) for patient in patients])
    chosen = balanced(labels, most=30, seed=0)
    assert len(chosen) == 30
    assert np.bincount(labels[chosen]).tolist() == [6] * 5
    own = [prepared[index] for index in chosen]
    found = label_randomisation(predictor.package, own, labels[chosen], seed=0, progress=silent)
    assert found["repeats_shuffled"] >= 0.9
    assert found["changes"]
    one = label_randomisation(predictor.package, own[:4], np.zeros(4, np.int64), seed=0, progress=silent)
    assert "two classes" in one["reason"]
