"""Finer labels: the tree, the branches that labels allow, and a head whose parents are the sums of their children."""

import numpy as np
import pytest

from broker_config.codec import decode, encode
from broker_config.messages import Diagnosis
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.tree.answer import FinerHead, branch_of, read_off
from model_zoo.tree.fitting import Labelled, fit_finer, measured, nodes_of
from model_zoo.tree.grown import grow
from model_zoo.tree.labels import label_tree
from model_zoo.tree.statement import BIAS, WEIGHT


def test_the_tree_holds_fab_each_subtype_with_its_source():
    tree = label_tree()
    fab = {node.code for node in tree.nodes.values() if node.system == "FAB"}
    assert {"L1", "L2", "L3", *(f"M{n}" for n in range(8))} <= fab
    assert {"anaemia", "thrombocytopenia"} <= set(tree.subtypes("healthy"))
    assert all(node.source for node in tree.nodes.values() if node.parent)
    assert tree.nodes["ALL/Early"].system != "FAB"
    apl = tree.find("AML", "APL")
    assert apl is tree.nodes["AML/M3"]
    assert "emergency" in apl.suspicion
    assert apl.suspicion_source
    assert tree.find("AML", "m5b").path == "AML/not-M3/M5"
    assert tree.find("AML", "diagnosis not stated") is None
    with pytest.raises(DatasetError, match="'L1' is one of ALL, and the label is AML"):
        tree.find("AML", "L1")


def grown(*labelled):
    """Branches of (label, subtype, frames); each frame a patient group of its own."""
    pairs = [(label, subtype) for label, subtype, count in labelled for _ in range(count)]
    nodes = nodes_of([label for label, _ in pairs], [subtype for _, subtype in pairs])
    return grow(label_tree(), nodes, range(len(nodes)))


def test_branches_are_those_that_labels_allow():
    alone = grown(("AML", "M3", 5), ("AML", "", 9))
    assert alone.branches == ()
    assert "not-M3" in alone.notes[0]
    (two,) = grown(("AML", "M3", 5), ("AML", "other AML", 9), ("AML", "M4", 1)).branches
    assert two.leaves == ("AML/M3", "AML/not-M3")
    (deep,) = grown(("AML", "M3", 2), ("AML", "M4", 2), ("AML", "M5", 2), ("AML", "not-M3", 4)).branches
    assert deep.leaves == ("AML/M3", "AML/not-M3/M4", "AML/not-M3/M5")
    assert deep.below("AML/not-M3").tolist() == [False, True, True]
    assert deep.common(np.array([False, True, True])) == "AML/not-M3"
    assert deep.common(np.array([True, True, False])) == "AML"
    assert deep.common(np.array([True, False, False])) == "AML/M3"
    mixed = grown(("ALL", "Early", 6), ("ALL", "Pre", 6), ("ALL", "L1", 3), ("ALL", "L2", 3))
    assert mixed.branches[0].leaves == ("ALL/Early", "ALL/Pre")
    assert "6 frames labelled by FAB train the disease only" in mixed.notes[0]


def made_up(patients, *, told=("M3", "M4", "M5"), seed=0, shift=2.0):
    """Features of AML patients, five frames each; a subtype moves one of them, a patient all of them."""
    rng = np.random.default_rng(seed)
    features, subtypes, groups = [], [], []
    for number in range(patients):
        subtype = told[number % len(told)]
        centre = 0.5 * rng.normal(size=12)
        centre[("M3", "M4", "M5", "not-M3", "").index(subtype) % 3] += shift
        features += [centre + rng.normal(size=12) for _ in range(5)]
        subtypes += [subtype] * 5
        groups += [seed * 1000 + number] * 5
    nodes = nodes_of(["AML"] * len(subtypes), subtypes)
    return Labelled(np.asarray(features, np.float32), nodes, np.asarray(groups))


@pytest.fixture(scope="module")
def fitted():
    return fit_finer(made_up(45), made_up(12, seed=1), width=12)


def head_of(model):
    tensors = model.tensors()
    return FinerHead(model.stated, tensors[WEIGHT], tensors[BIAS])


def test_every_node_is_the_sum_of_its_children(fitted):
    head = head_of(fitted)
    for features in made_up(6, seed=2).features:
        answer = head.answer("AML", 0.8, features, certain=True, foreign=False)
        p = answer.probabilities
        assert p["AML/M3"] + p["AML/not-M3"] == pytest.approx(0.8)
        assert p["AML/not-M3/M4"] + p["AML/not-M3/M5"] == pytest.approx(p["AML/not-M3"])
    assert head.answer("CLL", 0.8, features, certain=True, foreign=False) is None


def test_what_separates_is_learnt_and_what_does_not_stops_at_the_parent(fitted):
    figures = {node.path: node for node in measured(fitted, made_up(30, seed=3), width=12).branches[0].nodes}
    assert figures["AML/M3"].test_auroc.low > 0.8
    assert figures["AML/M3"].test_auroc.patients == 30
    assert figures["AML/M3"].cross_fitted_auroc.low > 0.8
    chance = fit_finer(made_up(45, shift=0.0), made_up(12, seed=1, shift=0.0), width=12)
    node = chance.stated.branches[0].nodes[0]
    assert node.cross_fitted_auroc.low < 0.5 < node.cross_fitted_auroc.high

    def deep(model):
        found = [
            head_of(model).answer("AML", 0.99, own, certain=True, foreign=False).level
            for own in made_up(30, seed=4).features
        ]
        return np.mean([level > 1 for level in found])

    assert deep(fitted) > 0.5
    assert deep(chance) < 0.2


def test_frames_known_to_the_parent_only_teach_nothing_and_those_between_do():
    plain = fit_finer(made_up(45), made_up(12, seed=1), width=12)
    parents = made_up(20, told=("",), seed=7)
    same = fit_finer(made_up(45).joined(parents), made_up(12, seed=1), width=12)
    assert np.array_equal(plain.linear.weight, same.linear.weight)
    between = made_up(20, told=("not-M3",), seed=8)
    other = fit_finer(made_up(45).joined(between), made_up(12, seed=1), width=12)
    assert not np.array_equal(plain.linear.weight, other.linear.weight)
    assert [node.frames for node in other.stated.branches[0].nodes] == [75, 250, 75, 75]


def test_apl_is_suspected_on_a_sensitive_threshold_and_never_on_foreign_frames(fitted):
    (stated,) = fitted.stated.branches
    (apl,) = stated.suspicions
    assert apl.sensitivity >= 1 - apl.wanted_miss_rate
    chances = np.array([apl.threshold, (1 - apl.threshold) / 2, (1 - apl.threshold) / 2])
    answer = read_off(stated, chances, 0.9, certain=False, foreign=False)
    assert answer.label == "AML"
    assert answer.level == 1
    assert answer.alert.startswith("APL suspected")
    assert answer.alert_threshold == apl.threshold
    assert read_off(stated, chances, 0.9, certain=True, foreign=True).alert == ""
    few = fit_finer(made_up(6, told=("M3", "not-M3")), made_up(2, told=("M3", "not-M3"), seed=1), width=12)
    assert few.stated.branches[0].threshold is None  # eight patients cannot show 10 %
    certain = np.array([1.0, 0.0])
    assert read_off(few.stated.branches[0], certain, 0.9, certain=True, foreign=False).label == "AML"
    assert branch_of(stated).disease == "AML"


def test_the_finer_answer_goes_over_the_wire_and_a_contradiction_does_not(diagnosis_fields):
    finer = {
        "label": "AML/M3",
        "name": "acute promyelocytic leukaemia (APL, FAB M3)",
        "level": 2,
        "system": "FAB",
        "probabilities": {"AML/M3": 0.5, "AML/not-M3": 0.1},
        "alert": "APL suspected",
        "alert_threshold": 0.3,
    }
    message = Diagnosis.model_validate({**diagnosis_fields, "prediction": "AML", "finer": finer})
    assert decode(encode(message), Diagnosis).finer == message.finer
    assert decode(encode(Diagnosis.model_validate(diagnosis_fields)), Diagnosis).finer is None
    with pytest.raises(ValueError, match="finer label"):
        Diagnosis.model_validate({**diagnosis_fields, "prediction": "ALL", "finer": finer})


@pytest.fixture
def diagnosis_fields():
    from broker_config.messages import new_frame_id, now  # noqa: PLC0415

    return {
        "frame_id": new_frame_id(), "case": "A-1", "site": "clinic", "device": "scope-1", "captured_at": now(),
        "diagnosed_at": now(), "worker": "w1",
        "model": {"name": "m", "version": "1", "weights_sha256": "0" * 64},
        "probabilities": dict.fromkeys(LABELS, 0.2), "prediction": "ALL", "prediction_set": ("ALL",),
        "decision": "report", "ood_score": 1.0, "ood_threshold": 2.0,
        "activation": tuple((0.0,) * 7 for _ in range(7)), "image_sha256": "0" * 64,
    }  # fmt: skip
