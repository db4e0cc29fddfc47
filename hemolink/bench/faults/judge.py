"""The judge: what became of every picture that was given, from the evidence alone.

Each must be recorded, with one diagnosis for each model that answered, or told to a person. Anything else is lost. The
sequence numbers of each edge are looked through as well, since a hole in them is a frame that nobody speaks of.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hemolink.bench.faults.evidence import Evidence, Kept, Spooled
from hemolink.bench.faults.load import Given

_NAMED = 12

Row = TypeVar("Row", Kept, Spooled)


@dataclass
class Verdict:
    """What became of the pictures.

    Attributes:
        given: How many were given to the edges.
        refused: Those that an edge did not take, with the reason, by number.
        recorded: Numbers of those in the record.
        told: Those that a person was told of, with the reason, by number.
        lost: All others, with whatever is known of them, by number.
        waiting: Those of the lost that an edge's spool still holds, or that it has not taken yet.
        duplicates: What stands twice, in sentences.
        gaps: What is wrong with the sequence numbers, in sentences.
        contradicted: Recorded, though a person was told that they could not be; by number.
        strangers: Frames in the record that were never given.
        unreadable: What could not be read, in sentences.
    """

    given: int
    refused: dict[int, str] = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)
    told: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    duplicates: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    contradicted: dict[int, str] = field(default_factory=dict)
    strangers: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def captured(self) -> int:
        """Pictures that passed the quality gate, or of which nobody knows."""
        return self.given - len(self.refused)

    @property
    def holds(self) -> bool:
        """Whether nothing is lost, doubled or unknown."""
        return not (self.lost or self.duplicates or self.gaps or self.strangers or self.unreadable)


def judge(given: Iterable[Given], found: Evidence) -> Verdict:
    """Return what became of each picture.

    Args:
        given: The harness's own list.
        found: What the run left behind.
    """
    pictures = list(given)
    verdict = Verdict(len(pictures), unreadable=list(found.unreadable))
    kept, spooled = _by_number(found.kept), _by_number(found.spooled)
    reasons = _reasons(found)
    answered = {one.frame_id for one in found.diagnosed if one.joined}
    verdict.strangers = len([one for one in found.kept if one.number is None])
    for picture in pictures:
        number = picture.number
        rows = kept.get(number, [])
        good = [row for row in rows if row.recorded and row.whole and row.frame_id in answered]
        told = reasons.get(number, "")
        if good:
            verdict.recorded.add(number)
            if told:
                verdict.contradicted[number] = told
        elif told:
            verdict.told[number] = told
        elif (picture.edge, picture.file) in found.refused:
            verdict.refused[number] = found.refused[picture.edge, picture.file]
        else:
            waits = spooled.get(number, [])
            verdict.lost[number] = _known(picture, rows, waits, answered)
            if waits:
                verdict.waiting.add(number)
        if len(good) > 1:
            verdict.duplicates.append(
                f"picture {number} is recorded {len(good)} times, as {', '.join(row.frame_id for row in good)}"
            )
    verdict.duplicates += _twice(found)
    verdict.gaps = _gaps(found)
    return verdict


def _by_number(rows: Iterable[Row]) -> dict[int, list[Row]]:
    by_number: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.number is not None:
            by_number[row.number].append(row)
    return by_number


def _reasons(found: Evidence) -> dict[int, str]:
    """Return what a person is told of a captured frame, by number: parked at the edge, or a rejection in the record."""
    reasons: dict[int, str] = {}
    numbers: dict[str, int] = {}
    by_sequence: dict[tuple[str, int], int] = {}
    for spooled in (*found.known.values(), *found.spooled):
        if spooled.number is not None:
            numbers[spooled.frame_id] = spooled.number
            by_sequence[spooled.edge, spooled.sequence] = spooled.number
    for kept in found.kept:
        if kept.number is not None:
            numbers[kept.frame_id] = kept.number
            by_sequence[kept.device, kept.sequence] = kept.number
    for told in found.told:
        number = numbers.get(told.frame_id or "")
        if number is None and told.sequence is not None:
            number = by_sequence.get((told.device, told.sequence))
        if number is not None:
            reasons[number] = f"{told.code}: {told.reason}"
    for spooled in found.spooled:
        if spooled.state == "parked" and spooled.number is not None:
            reasons.setdefault(spooled.number, f"parked: {spooled.reason}")
    return reasons


def _known(picture: Given, rows: list[Kept], waits: list[Spooled], answered: set[str]) -> str:
    """Say whatever is known of a lost picture."""
    known = [f"{picture.sort}, given to {picture.edge} as {picture.file} at {picture.at_s:.1f} s"]
    for row in rows:
        missing = [
            what
            for what, missed in (
                ("its image", not row.whole),
                ("its diagnosis", row.frame_id not in answered),
                ("the mark 'recorded'", not row.recorded),
            )
            if missed
        ]
        known.append(f"in the record as {row.frame_id} without {' and '.join(missing)}")
    known += [f"in the spool as {one.frame_id}, {one.state}" for one in waits]
    if not rows and not waits:
        known.append("neither the record nor the spool knows it, and the edge's log names no reason")
    return "; ".join(known)


def _twice(found: Evidence) -> list[str]:
    """Return what stands twice in the record's own tables."""
    frames = Counter(row.frame_id for row in found.kept)
    diagnoses = Counter((row.frame_id, row.model) for row in found.diagnosed)
    return [
        *(f"frame {frame_id} has {count} rows" for frame_id, count in frames.items() if count > 1),
        *(
            f"frame {frame_id} has {count} diagnoses of the model {model[:12]}"
            for (frame_id, model), count in diagnoses.items()
            if count > 1
        ),
    ]


def _gaps(found: Evidence) -> list[str]:
    """Return sequence numbers that nobody speaks of, and those that two frames bear."""
    seen: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    sequences: Mapping[str, int] = {one.frame_id: one.sequence for one in found.known.values()}
    for kept in found.kept:
        seen[kept.device][kept.sequence].add(kept.frame_id)
    for spooled in found.spooled:
        seen[spooled.edge][spooled.sequence].add(spooled.frame_id)
    for told in found.told:
        sequence = told.sequence if told.sequence is not None else sequences.get(told.frame_id or "")
        if sequence is not None:
            seen[told.device][sequence].add(told.frame_id or "")
    sentences = []
    for device, until in found.next_sequence.items():
        missing = [str(number) for number in range(until) if number not in seen[device]]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            sentences.append(f"{device}: nobody speaks of the frames {', '.join(missing[:_NAMED])}{more}")
        sentences += [
            f"{device}: {len(ids)} frames bear the number {number}"
            for number, ids in sorted(seen[device].items())
            if len(ids - {""}) > 1
        ]
    return sentences
