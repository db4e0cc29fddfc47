"""What folders and columns call a disease, and the label and subtype that it stands for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.tree.labels import label_tree, plain

UNLABELLED: Final = "-"
"""On the command line, `NAME=-` keeps the images of that name without a label."""

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "healthy": ("healthy", "normal", "hem", "control", "noleukemia", "noleukaemia"),
    "ALL": ("all", "acutelymphoblasticleukemia", "acutelymphoblasticleukaemia", "acutelymphocyticleukemia"),
    "AML": ("aml", "acutemyeloidleukemia", "acutemyeloidleukaemia", "acutemyelogenousleukemia"),
    "CLL": ("cll", "chroniclymphocyticleukemia", "chroniclymphocyticleukaemia"),
    "CML": ("cml", "chronicmyeloidleukemia", "chronicmyeloidleukaemia", "chronicmyelogenousleukemia"),
}


class Vocabulary:
    """Turns names into labels.

    Args:
        extra: Further names and the label each stands for: a label, a label and a subtype of it (`AML/M3`), or "-" for none.

    Raises:
        DatasetError: If an extra name stands for a label or subtype that the label tree does not know.
    """

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        self._tree = label_tree()
        self._meaning = {
            plain(word): (node.disease, node.code)
            for node in self._tree.nodes.values()
            if node.parent
            for word in (node.code, node.path, *node.also)
        }
        self._meaning |= {word: (label, "") for label, words in _WORDS.items() for word in words}
        for name, text in (extra or {}).items():
            self._meaning[plain(name)] = ("", "") if text == UNLABELLED else self._stated(name, text)

    def _stated(self, name: str, text: str) -> tuple[str, str]:
        label, _, subtype = text.partition("/")
        if label not in LABELS:
            raise DatasetError(
                f"--label {name}={text}: {label!r} is no label of the model; use one of {', '.join(LABELS)}, or "
                f"{UNLABELLED} to keep these images without a label"
            )
        node = self._tree.find(label, subtype)
        if node is None:
            raise DatasetError(
                f"--label {name}={text}: the label tree knows no subtype {subtype!r} of {label}; it knows "
                f"{', '.join(self._tree.subtypes(label)) or 'none'}"
            )
        return label, node.code if node.parent else ""

    def subtype(self, label: str, written: str) -> tuple[str, bool]:
        """A subtype by the tree's code, and whether the tree knows it; as written where it does not.

        Raises:
            DatasetError: If the subtype is one of another disease.
        """
        node = self._tree.find(label, written)
        return (node.code, True) if node is not None and node.parent else (written, not written)

    def __contains__(self, name: str) -> bool:
        return not name or plain(name) in self._meaning

    def meaning(self, name: str) -> tuple[str, str]:
        """Label and subtype of a known name; two empty strings for an empty one."""
        return self._meaning[plain(name)] if name else ("", "")

    def check(self, names: Iterable[str], *, where: str) -> None:
        """Refuse names that stand for no label, all of them in one message.

        Raises:
            DatasetError: If there is any.
        """
        unknown = Counter(name for name in names if name not in self)
        if unknown:
            listed = ", ".join(f"{name!r} ({count} images)" for name, count in unknown.most_common(12))
            raise DatasetError(
                f"{where} has labels that the model does not know: {listed}; it knows {', '.join(LABELS)}. Say what they "
                f"are with --label NAME=LABEL, or keep the images unlabelled with --label NAME={UNLABELLED}"
            )
