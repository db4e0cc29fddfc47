"""Training runs, resumes where it stopped, and never starts from random weights unasked."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from model_zoo.architecture import SmearNetwork, load_pretrained
from model_zoo.baseline import baseline_accuracy
from model_zoo.datasets.split import Split
from model_zoo.errors import DatasetError, PretrainedWeightsError, TrainingError, UnsafePackageError
from model_zoo.schedule import Stage, one_cycle, plan_stages
from model_zoo.training import Trainer, TrainingSettings

pytestmark = pytest.mark.torch

PLAN = (
    Stage("cells", "cells", 32, 1, 8, 4, 1e-3),
    Stage("fields", "fields", 64, 2, 8, 4, 1e-3, kind_weight=0.5),
)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine cost more than they give on inputs this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**changes):
    return TrainingSettings(
        **{"architecture": "resnet34", "plan": PLAN, "from_scratch": True, "bf16": False} | changes
    )


def test_a_resumed_run_ends_where_the_unbroken_one_does(store, split, tmp_path):
    whole = Trainer(settings(), store, split, tmp_path / "whole", quiet=True).run()

    class Stopped(Exception):
        pass

    def stop(entry):
        if (entry["stage"], entry["epoch"]) == ("fields", 1):
            raise Stopped

    broken = Trainer(settings(), store, split, tmp_path / "broken", quiet=True)
    with pytest.raises(Stopped):
        broken.run(report=stop)
    entries = []
    resumed = Trainer(settings(), store, split, tmp_path / "broken", quiet=True).run(
        resume=True, report=entries.append
    )
    assert [(e["stage"], e["epoch"]) for e in entries] == [("fields", 2)]
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.float(), resumed.state_dict()[name].float(), atol=1e-5), name
    assert not [path for path in (tmp_path / "broken").rglob("*") if path.suffix in (".pt", ".pkl", ".pth")]


def test_resuming_nothing_is_refused(store, split, tmp_path):
    with pytest.raises(TrainingError, match="without --resume"):
        Trainer(settings(), store, split, tmp_path, quiet=True).run(resume=True)


def test_a_divided_split_never_trains(store, split, tmp_path):
    with pytest.raises(DatasetError, match="divides"):
        Trainer(settings(), store, Split(split.train, split.train, split.test), tmp_path)


def test_an_unreachable_hub_is_an_error_that_names_the_flag(store, split, tmp_path, monkeypatch):
    create = timm.create_model

    def offline(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError("Network is unreachable")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(PretrainedWeightsError, match=r"Network is unreachable.*--weights.*--from-scratch"):
        Trainer(settings(from_scratch=False), store, split, tmp_path, quiet=True).run()
    assert not (tmp_path / "checkpoint.json").exists()


def test_local_weights_are_taken_where_they_fit(tmp_path):
    donor = SmearNetwork("resnet34")
    save_file({k: v.contiguous() for k, v in donor.body.state_dict().items()}, tmp_path / "donor.safetensors")
    network = SmearNetwork("resnet34")
    assert "donor.safetensors" in load_pretrained(network, tmp_path / "donor.safetensors")
    assert torch.equal(network.body.conv1.weight, donor.body.conv1.weight)
    with pytest.raises(PretrainedWeightsError, match=r"lacks .* tensors of densenet121"):
        load_pretrained(SmearNetwork("densenet121"), tmp_path / "donor.safetensors")
    torch.save({}, tmp_path / "pickled.safetensors")
    with pytest.raises(UnsafePackageError, match="pickled weights are not read"):
        load_pretrained(network, tmp_path / "pickled.safetensors")


def test_pretrained_plans_train_the_head_first():
    head, rest = plan_stages(cells=False, pretrained=True, epochs=3, samples=100)
    assert (head.body_rate, rest.body_rate > 0, rest.epochs) == (0, True, 3)
    small, full = plan_stages(cells=False, pretrained=False, epochs=3, samples=100)
    assert small.size < full.size == 224


def test_the_learning_rate_rises_and_falls():
    rates = [one_cycle(step, 100, 1.0) for step in range(101)]
    assert rates.index(max(rates)) == 15
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.01 < rates[0] < 0.2


def test_the_baseline_is_measured_on_the_same_split(store, split):
    estimate, confusion = baseline_accuracy(store, split, trees=20)
    assert confusion.sum() == len(split.test)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
