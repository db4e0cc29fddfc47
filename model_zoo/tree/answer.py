"""The finer answer for a frame: probabilities of subtypes, and how deep they can be told."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.tree.grown import Branch
from model_zoo.tree.statement import BIAS, WEIGHT, FinerBranch, FinerLabels

if TYPE_CHECKING:
    from model_zoo.package import ModelPackage


@dataclass(frozen=True)
class FinerAnswer:
    """What the model says below the disease that it predicts.

    Attributes:
        label: Path of the deepest node that is certain, such as `AML/M3`; the disease where none below it is.
        name: Of that node, for people.
        level: 1 for the disease, 2 for a subtype, 3 for one below that.
        system: What divides the disease, such as `FAB`.
        probabilities: By path, the disease's subtypes; children sum to their parent, those below the disease to the disease's
            own probability.
        alert: What to say of a subtype that must not be missed, or empty.
        alert_threshold: Probability within the disease from which a subtype that must not be missed is suspected; None where
            there is none.
    """

    label: str
    name: str
    level: int
    system: str
    probabilities: dict[str, float]
    alert: str = ""
    alert_threshold: float | None = None


class FinerHead:
    """A package's finer head.

    Args:
        stated: What the card says.
        weight: (L, D) float32, the branches' rows one after the other.
        bias: (L,) float32.
    """

    def __init__(self, stated: FinerLabels, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        self.stated = stated
        self._weight, self._bias = weight, bias
        self._rows: dict[str, slice] = {}
        start = 0
        for branch in stated.branches:
            self._rows[branch.disease] = slice(start, start + len(branch.leaves))
            start += len(branch.leaves)

    @classmethod
    def from_package(cls, package: "ModelPackage") -> Self | None:
        """Read it from a package; None where the package has no finer labels."""
        stated = package.card.finer
        return cls(stated, package.tensor(WEIGHT), package.tensor(BIAS)) if stated is not None else None

    def within(self, disease: str, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """p(leaf | disease) of features (N, D or more; the pooled last map comes first): (N, L), or None."""
        branch = self.branch(disease)
        if branch is None:
            return None
        rows = self._rows[disease]
        pooled = features[:, : self._weight.shape[1]].astype(np.float64)
        scores = (pooled @ self._weight[rows].T + self._bias[rows]) / branch.temperature
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)

    def branch(self, disease: str) -> FinerBranch | None:
        """What the card says of a disease's subtypes."""
        return next((branch for branch in self.stated.branches if branch.disease == disease), None)

    def answer(
        self, disease: str, probability: float, features: NDArray[np.float32], *, certain: bool, foreign: bool
    ) -> FinerAnswer | None:
        """Answer for one frame.

        Args:
            disease: Predicted.
            probability: Of the disease.
            features: (D or more,) of the frame.
            certain: Whether the disease is the only one that cannot be ruled out; otherwise the answer stops at it.
            foreign: Whether the frame is out of distribution; then no alert is raised, since the probabilities mean little.

        Returns:
            None where the package divides this disease no further.
        """
        branch = self.branch(disease)
        chances = self.within(disease, features[None])
        if branch is None or chances is None or not np.isfinite(chances).all():
            return None
        return read_off(branch, chances[0], probability, certain=certain and not foreign, foreign=foreign)


def read_off(
    branch: FinerBranch, chances: NDArray[np.float64], probability: float, *, certain: bool, foreign: bool
) -> FinerAnswer:
    """Turn p(leaf | disease), (L,), into an answer; arguments as of `FinerHead.answer`."""
    tree = branch_of(branch)
    shares = {node.path: float(chances[tree.below(node.path)].sum()) for node in branch.nodes}
    label = branch.disease
    if certain and branch.threshold is not None:
        label = tree.common(chances >= branch.threshold)
    names = {node.path: node.name for node in branch.nodes}
    raised = [one for one in branch.suspicions if not foreign and shares[one.path] >= one.threshold]
    return FinerAnswer(
        label=label,
        name=names.get(label, branch.disease),
        level=label.count("/") + 1,
        system=branch.system,
        probabilities={path: probability * share for path, share in shares.items()},
        alert=" ".join(one.sentence for one in raised),
        alert_threshold=min((one.threshold for one in branch.suspicions), default=None),
    )


def branch_of(stated: FinerBranch) -> Branch:
    """The branch that a card states."""
    return Branch(stated.disease, stated.system, stated.leaves, tuple(node.path for node in stated.nodes))
