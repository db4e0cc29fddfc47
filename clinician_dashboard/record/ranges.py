"""A set of whole numbers kept as ranges, that remembers which of its rows changed since they were last written."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Span:
    """The numbers ``first`` to ``last``, both included, open since ``opened_at``."""

    first: int
    last: int
    opened_at: datetime

    def __len__(self) -> int:
        return self.last - self.first + 1


class Ranges:
    """Open numbers of one device. Taking one out costs a binary search, however many frames there ever were.

    Args:
        spans: As the database holds them; they do not overlap.
    """

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans = sorted(spans, key=lambda span: span.first)
        self._stored = {span.first for span in self._spans}
        self._dirty: set[int] = set()

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, number: int) -> bool:
        return self._place(number) is not None

    def open(self, first: int, last: int, *, at: datetime) -> None:
        """Add the numbers ``first`` to ``last``; they must not be open already. Nothing happens if there are none."""
        if first > last:
            return
        index = bisect_right(self._spans, first, key=lambda span: span.first)
        self._spans.insert(index, Span(first, last, at))
        self._dirty.add(first)

    def close(self, number: int) -> bool:
        """Take ``number`` out; return whether it was open."""
        index = self._place(number)
        if index is None:
            return False
        span = self._spans[index]
        left = [Span(span.first, number - 1, span.opened_at)] if span.first < number else []
        right = [Span(number + 1, span.last, span.opened_at)] if number < span.last else []
        self._spans[index : index + 1] = left + right
        self._dirty |= {span.first, *(one.first for one in right)}
        return True

    def changes(self) -> tuple[list[Span], list[int]]:
        """Return the spans to write and the firsts of those to delete, once: what is returned counts as written."""
        present = {span.first: span for span in self._in(self._dirty)}
        gone = [first for first in sorted(self._dirty) if first not in present and first in self._stored]
        self._stored = (self._stored - set(gone)) | set(present)
        self._dirty = set()
        return list(present.values()), gone

    def _in(self, firsts: set[int]) -> Iterator[Span]:
        for first in sorted(firsts):
            index = bisect_right(self._spans, first, key=lambda span: span.first) - 1
            if index >= 0 and self._spans[index].first == first:
                yield self._spans[index]

    def _place(self, number: int) -> int | None:
        index = bisect_right(self._spans, number, key=lambda span: span.first) - 1
        return index if index >= 0 and self._spans[index].last >= number else None
