"""What folders and columns call a disease, and the label and subtype that it stands for."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

UNLABELLED: Final = "-"
"""On the command line, `NAME=-` keeps the images of that name without a label."""

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "healthy": ("healthy", "normal", "hem", "control", "noleukemia", "noleukaemia", "benign"),
    "ALL": ("all", "acutelymphoblasticleukemia", "acutelymphoblasticleukaemia", "acutelymphocyticleukemia"),
    "AML": ("aml", "acutemyeloidleukemia", "acutemyeloidleukaemia", "acutemyelogenousleukemia"),
    "CLL": ("cll", "chroniclymphocyticleukemia", "chroniclymphocyticleukaemia"),
    "CML": ("cml", "chronicmyeloidleukemia", "chronicmyeloidleukaemia", "chronicmyelogenousleukemia"),
}
# FAB subtypes (Bennett et al. 1976), and the stages of B-lineage ALL that public sets use as folder names.
_SUBTYPES: Final[dict[str, tuple[str, str]]] = {
    **{f"l{n}": ("ALL", f"L{n}") for n in (1, 2, 3)},
    **{f"m{n}": ("AML", f"M{n}") for n in range(8)},
    "apl": ("AML", "M3"),
    "early": ("ALL", "Early"),
    "pre": ("ALL", "Pre"),
    "pro": ("ALL", "Pro"),
    "benign": ("healthy", "benign"),
}


class Vocabulary:
    """Turns names into labels.

    Args:
        extra: Further names and the label each stands for; the label may be "-", for none.

    Raises:
        DatasetError: If an extra name stands for a label that the model does not know.
    """

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        self._meaning = {word: (label, "") for label, words in _WORDS.items() for word in words} | _SUBTYPES
        for name, label in (extra or {}).items():
            if label not in (*LABELS, UNLABELLED):
                raise DatasetError(
                    f"--label {name}={label}: {label!r} is no label of the model; use one of {', '.join(LABELS)}, or "
                    f"{UNLABELLED} to keep these images without a label"
                )
            self._meaning[_plain(name)] = ("" if label == UNLABELLED else label, "")

    def __contains__(self, name: str) -> bool:
        return not name or _plain(name) in self._meaning

    def meaning(self, name: str) -> tuple[str, str]:
        """Label and subtype of a known name; two empty strings for an empty one."""
        return self._meaning[_plain(name)] if name else ("", "")

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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
