"""A ViT and a ConvNeXt, with subtypes, through training, packaging, every engine and the message."""

import dataclasses

import numpy as np
import pytest

from model_zoo.datasets.split import Split
from model_zoo.labels import LABELS
from model_zoo.store import FrameStore

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

ENGINES = ("openvino", "onnxruntime", "torch")


@pytest.fixture(scope="module")
def tinted(store):
    """Thirty frames: ten healthy, ten of AML M3, which are tinted, and ten of other AML."""
    pixels, frames = np.array(store.pixels), []
    for number, frame in enumerate(store.frames):
        subtype = ("", "M3", "not-M3")[number % 3]
        label = LABELS.index("AML" if subtype else "healthy")
        frames.append(dataclasses.replace(frame, label=label, subtype=subtype, cells=()))
        pixels[number, :, :, 0] //= 1 + (subtype == "M3")
    return FrameStore(pixels, frames)


@pytest.fixture(scope="module", params=["vit-tiny", pytest.param("convnext-atto", marks=pytest.mark.slow)])
def newer(request, tmp_path_factory, tinted):
    """A package of a network that was trained for two batches."""
    from model_zoo.packaging import PackageSettings, build_package  # noqa: PLC0415 - torch takes seconds
    from model_zoo.schedule import Stage  # noqa: PLC0415
    from model_zoo.training import Trainer, TrainingSettings  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("newer")
    plan = (Stage("fields", "fields", 64, 1, 8, 4, 1e-3),)
    settings = TrainingSettings(request.param, plan, from_scratch=True)
    split = Split(np.arange(18), np.arange(18, 24), np.arange(24, 30))
    Trainer(settings, tinted, split, folder / "run", quiet=True).run()
    wanted = PackageSettings("newer", alpha=0.2, strange=0, precision="fp32")
    return build_package(folder / "run", tinted, folder / "newer", settings=wanted)


def test_it_verifies_and_every_engine_answers_alike(newer, tinted, serve):
    from model_zoo.verification import verify_package  # noqa: PLC0415

    checks = {check.name: check for check in verify_package(newer.path)}
    assert all(check.passed for check in checks.values()), checks
    assert "agreement" in checks
    found = {name: serve(newer, engine=name, precision="fp32").predict(tinted.pixels[:6]) for name in ENGINES}
    for own in zip(*found.values(), strict=True):
        assert np.ptp([one.probabilities for one in own], axis=0).max() < 1e-3
        shares = [list(one.finer.probabilities.values()) if one.finer else [] for one in own]
        assert np.ptp(shares, axis=0).max(initial=0) < 1e-3
        for one, below in zip(own, shares, strict=True):
            assert one.prediction in ("healthy", "AML")
            if below:
                assert sum(below) == pytest.approx(one.probabilities[LABELS.index("AML")])
    (branch,) = newer.card.finer.branches
    assert branch.leaves == ("AML/M3", "AML/not-M3")


def test_it_gives_a_map_or_says_why_there_is_none(newer, tinted, serve):
    from cloud_worker.diagnosis import assemble, identity_of  # noqa: PLC0415

    by_engine = {name: serve(newer, engine=name, precision="fp32") for name in ENGINES}
    maps = {}
    for name, predictor in by_engine.items():
        (found,) = predictor.predict(tinted.pixels[1:2])
        maps[name] = np.asarray(found.activation)
        assert maps[name].shape == (7, 7)
        absent = newer.card.architecture == "vit-tiny" and name != "torch"
        assert bool(found.activation_absent) is absent
        assert maps[name].any() != absent
        if absent:
            assert "serve it with the torch engine" in found.activation_absent
        message = assemble(
            job_of(tinted.pixels[1]),
            found,
            model=identity_of(newer, engine=predictor.engine_name),
            worker="w1",
        )
        assert message.activation_absent == found.activation_absent
        assert (message.finer is None) is (found.finer is None)
        assert message.finer is None or message.finer.label.startswith("AML")
    if newer.card.architecture == "convnext-atto":
        assert np.ptp(list(maps.values()), axis=0).max() < 2e-3


def job_of(pixels):
    """What the worker has decoded of a frame, as far as a diagnosis needs it."""
    from types import SimpleNamespace  # noqa: PLC0415

    from broker_config.messages import Frame, new_frame_id, now  # noqa: PLC0415

    frame = Frame(
        frame_id=new_frame_id(), case="A-1", site="clinic", device="d1", captured_at=now(), encoding="png",
        width=224, height=224, image_sha256="0" * 64, image=pixels.tobytes()[:10],
    )  # fmt: skip
    return SimpleNamespace(frame=frame, queue_ms=1.0, decode_ms=1.0, inference_ms=1.0)


def test_an_evaluation_measures_subtypes(newer, tinted, serve):
    from pathlib import Path  # noqa: PLC0415

    from model_zoo.datasets.manifest import ManifestRow  # noqa: PLC0415
    from model_zoo.report.answers import Answers  # noqa: PLC0415
    from model_zoo.report.finer import finer_figures, finer_section  # noqa: PLC0415

    predictor = serve(newer, engine="openvino", precision="fp32", max_batch_size=30)
    inputs = [predictor.prepare(image) for image in tinted.pixels]
    rows = [
        ManifestRow(Path(f"{n}.png"), LABELS[f.label], f"p{n}", subtype=f.subtype)
        for n, f in enumerate(tinted.frames)
    ]
    answers = Answers(
        rows, [""] * 30, LABELS, tinted.labels, tinted.groups, predictor.run(inputs), np.zeros((30, 5)),
        predictor.infer(inputs),
    )  # fmt: skip
    (found,) = finer_figures(newer, answers)["branches"]
    assert (found["frames"], found["groups"]) == (20, 20)
    assert {row["path"]: row["frames"] for row in found["nodes"]} == {"AML/M3": 10, "AML/not-M3": 10}
    assert found["nodes"][0]["auroc"]["patients"] == 20
    assert found["suspicions"][0]["suspected_with"]["n"] == 10
    page = finer_section({"branches": [found]})
    assert "AML/M3 is suspected in" in page
