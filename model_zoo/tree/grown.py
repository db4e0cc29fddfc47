"""The part of the label tree that a training set has labels for: the branches of a model."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_zoo.tree.labels import SEPARATOR, LabelTree, Node


@dataclass(frozen=True)
class Branch:
    """One disease and the subtypes that a model tells apart within it.

    Attributes:
        disease: A label.
        system: What divides it, such as `FAB`.
        leaves: Paths of the subtypes without further division, two or more.
        nodes: Paths of all subtypes, those between the disease and the leaves too.
    """

    disease: str
    system: str
    leaves: tuple[str, ...]
    nodes: tuple[str, ...]

    def below(self, path: str) -> NDArray[np.bool_]:
        """Which leaves (L,) a node stands for: those below it, or itself; all of them for the disease."""
        return np.asarray([leaf == path or leaf.startswith(path + SEPARATOR) for leaf in self.leaves])

    def common(self, leaves: NDArray[np.bool_]) -> str:
        """The deepest node that holds all of some leaves (L,); the disease where none holds them."""
        chosen = [leaf.split(SEPARATOR) for leaf, inside in zip(self.leaves, leaves, strict=True) if inside]
        if not chosen:
            return self.disease
        shared = []
        for parts in zip(*chosen, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return SEPARATOR.join(shared)


@dataclass(frozen=True)
class Grown:
    """The branches that a training set has labels for, and what was left at the disease.

    Attributes:
        branches: In label order.
        notes: One sentence for each thing that a reader of the labels must know.
    """

    branches: tuple[Branch, ...]
    notes: tuple[str, ...]


def grow(tree: LabelTree, labelled: Sequence[Node | None], groups: Sequence[int]) -> Grown:
    """Cut the tree to what is labelled.

    A disease is divided where two or more subtypes of one system, none below another, have frames of two or more patient
    groups each. Of two systems the one with more frames is taken; frames of the other train the disease only.

    Args:
        tree: The whole tree.
        labelled: The node of every training frame, as deep as it is known; None where the tree does not know it.
        groups: Patient group of every training frame.
    """
    frames: Counter[str] = Counter(node.path for node in labelled if node is not None and node.parent)
    patients: dict[str, set[int]] = defaultdict(set)
    for node, group in zip(labelled, groups, strict=True):
        if node is not None:
            patients[node.path].add(int(group))
    branches: list[Branch] = []
    notes: list[str] = []
    for disease in (path for path, node in tree.nodes.items() if not node.parent):
        own = {path: count for path, count in frames.items() if tree.nodes[path].disease == disease}
        if not own:
            continue
        by_system: Counter[str] = Counter()
        for path, count in own.items():
            by_system[tree.nodes[path].system] += count
        system, _ = by_system.most_common(1)[0]
        for other, count in by_system.items():
            if other != system:
                notes.append(
                    f"{disease}: {count} frames labelled by {other} train the disease only, since {system} has more"
                )
        enough = [p for p in own if tree.nodes[p].system == system and len(patients[p]) > 1]
        few = [p for p in own if tree.nodes[p].system == system and len(patients[p]) < 2]  # noqa: PLR2004
        notes += [f"{path}: frames of one patient group only; they train what is above it" for path in few]
        kept = _kept(tree, disease, enough)
        leaves = tuple(p for p in kept if not any(q.startswith(p + SEPARATOR) for q in kept))
        if len(leaves) < 2:  # noqa: PLR2004
            notes.append(_lonely(tree, disease, leaves or tuple(own)))
            continue
        branches.append(Branch(disease, system, leaves, tuple(kept)))
    return Grown(tuple(branches), tuple(notes))


def _kept(tree: LabelTree, above: str, enough: Sequence[str]) -> list[str]:
    """Nodes below `above` that divide it; none where fewer than two of its children have labels."""
    children = [node.path for node in tree.nodes.values() if node.parent == above]
    live = [c for c in children if any(p == c or p.startswith(c + SEPARATOR) for p in enough)]
    if len(live) < 2:  # noqa: PLR2004
        return []
    return [path for child in live for path in (child, *_kept(tree, child, enough))]


def _lonely(tree: LabelTree, disease: str, found: Sequence[str]) -> str:
    codes = " and ".join(tree.nodes[path].code for path in found)
    remedy = " (subtype not-M3)" if disease == "AML" else ""
    return (
        f"{disease}: {codes} cannot be told from the rest, since no frames of two patients or more are labelled as anything "
        f"else; say which {disease} frames are of another subtype{remedy}"
    )
