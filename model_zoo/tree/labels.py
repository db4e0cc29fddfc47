"""The label tree: diseases, their subtypes, and what manifests call them.

The diseases are the five labels of every model, in their order. Below a disease stand subtypes of one or more systems (FAB, stage
of B-lineage); a system is a way to divide a disease, and two of them divide it differently, so that a model has one a disease.
`healthy` means "no leukaemia" here as everywhere, so that anaemia and thrombocytopenia without leukaemia stand below it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, Self

from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

SEPARATOR: Final = "/"


@dataclass(frozen=True)
class Node:
    """A disease or subtype.

    Attributes:
        path: Codes from the disease down, such as `AML/M3`.
        name: For people.
        system: What divides the disease so, such as `FAB`; empty for a disease.
        source: The publication that defines it, whole.
        also: What else it is called.
        suspicion: What to say where it is suspected, or empty.
        suspicion_source: The publication behind that sentence.
    """

    path: str
    name: str
    system: str = ""
    source: str = ""
    also: tuple[str, ...] = ()
    suspicion: str = ""
    suspicion_source: str = ""

    @property
    def disease(self) -> str:
        """The label that it belongs to."""
        return self.path.split(SEPARATOR, 1)[0]

    @property
    def code(self) -> str:
        """The last part of its path."""
        return self.path.rsplit(SEPARATOR, 1)[-1]

    @property
    def parent(self) -> str:
        """Path of the node above, or empty for a disease."""
        return self.path.rpartition(SEPARATOR)[0]


class LabelTree:
    """The whole tree.

    Args:
        nodes: In order, parents before children.
        version: Of the tree.
    """

    def __init__(self, nodes: list[Node], *, version: str) -> None:
        self.version = version
        self.nodes = {node.path: node for node in nodes}
        self._words: dict[str, dict[str, str]] = {}
        for node in nodes:
            if node.parent:
                words = self._words.setdefault(node.disease, {})
                for word in (node.code, node.path, *node.also):
                    words.setdefault(plain(word), node.path)

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Read the tree as labels.json holds it."""

        def walk(entry: dict[str, Any], above: str) -> Iterator[Node]:
            path = f"{above}{SEPARATOR}{entry['code']}" if above else entry["code"]
            suspicion = entry.get("suspicion", {})
            yield Node(
                path=path,
                name=entry["name"],
                system=entry.get("system", ""),
                source=raw["sources"][entry["source"]] if "source" in entry else "",
                also=tuple(entry.get("also", ())),
                suspicion=suspicion.get("sentence", ""),
                suspicion_source=raw["sources"][suspicion["source"]] if suspicion else "",
            )
            for child in entry.get("children", ()):
                yield from walk(child, path)

        return cls([node for entry in raw["diseases"] for node in walk(entry, "")], version=raw["version"])

    def find(self, disease: str, subtype: str) -> Node | None:
        """The node that a manifest's label and subtype name; None where the tree knows no such subtype.

        Raises:
            DatasetError: If the subtype is one of another disease.
        """
        if not subtype:
            return self.nodes.get(disease)
        path = self._words.get(disease, {}).get(plain(subtype))
        if path is not None:
            return self.nodes[path]
        elsewhere = [other for other, words in self._words.items() if plain(subtype) in words]
        if elsewhere:
            raise DatasetError(
                f"subtype {subtype!r} is one of {' and '.join(elsewhere)}, and the label is {disease}: correct either"
            )
        return None

    def subtypes(self, disease: str) -> list[str]:
        """Codes of a disease's subtypes."""
        return [node.code for node in self.nodes.values() if node.parent and node.disease == disease]


def plain(word: str) -> str:
    """A name without case, spaces and signs, as it is looked up."""
    return re.sub(r"[^a-z0-9]", "", word.lower())


@lru_cache(maxsize=1)
def label_tree() -> LabelTree:
    """The tree of this release.

    Raises:
        ValueError: If its diseases are not the labels in their order.
    """
    tree = LabelTree.parse(
        json.loads(files("model_zoo.tree").joinpath("labels.json").read_text(encoding="utf-8"))
    )
    diseases = tuple(node.path for node in tree.nodes.values() if not node.parent)
    if diseases != LABELS:
        raise ValueError(f"the label tree's diseases are {diseases}, not {LABELS}")
    return tree
