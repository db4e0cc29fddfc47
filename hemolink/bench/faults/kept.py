"""A run that was kept: the harness's own list beside what the plant left behind, to be judged again."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from hemolink.bench.faults.evidence import Reader, Spooled
from hemolink.bench.faults.judge import Verdict, judge
from hemolink.bench.faults.load import Given
from hemolink.bench.faults.plant import EDGES, RECORD
from hemolink.errors import Unanswered

GIVEN, KNOWN, SCHEDULE = "given.json", "known.json", "schedule.json"


def write_truth(directory: Path, given: Iterable[Given], known: Mapping[str, Spooled]) -> None:
    """Write down what was given, and what was in a spool before a fault damaged it."""
    write(directory / GIVEN, [asdict(one) for one in given])
    write(directory / KNOWN, [asdict(one) for one in known.values()])


def write(path: Path, content: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def judge_kept(directory: Path) -> Verdict:
    """Judge a kept run again.

    Args:
        directory: What ``--keep`` was given.

    Raises:
        Unanswered: If it is no kept run.
    """
    try:
        given = [Given(**one) for one in json.loads((directory / GIVEN).read_text(encoding="utf-8"))]
        known = [Spooled(**one) for one in json.loads((directory / KNOWN).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise Unanswered(
            f"{directory} is no run kept with --keep ({type(error).__name__}: {error})"
        ) from None
    reader = Reader(directory, edges=EDGES, record=RECORD)
    return judge(given, reader.read(given, known={one.frame_id: one for one in known}, images=True))
