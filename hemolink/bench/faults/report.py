"""What a run is told as: a table by fault, a line of time for each, totals, and one JSON object."""

from collections.abc import Iterator
from typing import Any

from hemolink.bench.faults.incident import Incident
from hemolink.bench.faults.judge import Verdict
from hemolink.bench.faults.run import Outcome, RunOptions

_COLUMNS = 48
_MARKS = " ▁▂▃▄▅▆▇█"
_SHOWN = 20


def as_json(outcome: Outcome, options: RunOptions) -> dict[str, Any]:
    """Return the run's figures."""
    verdict = outcome.verdict
    return {
        "faults": sum(one.done for one in outcome.incidents),
        "given": verdict.given,
        "refused": len(verdict.refused),
        "captured": verdict.captured,
        "recorded": len(verdict.recorded),
        "told": len(verdict.told),
        "lost": len(verdict.lost),
        "duplicates": len(verdict.duplicates),
        "gaps": len(verdict.gaps),
        "contradicted": len(verdict.contradicted),
        "by_fault": {kind: _figures(incidents) for kind, incidents in _by_kind(outcome).items()},
        "not_possible_here": outcome.impossible,
        "not_done": outcome.not_done,
        "unwell": outcome.unwell,
        "restarts": outcome.restarts,
        "settled_s": outcome.settled_s,
        "seed": options.seed,
        "seconds": options.seconds,
        "resend": options.resend,
        "real_workers": options.real_workers,
        "interrupted": outcome.interrupted,
        "holds": outcome.holds,
    }


def lines(outcome: Outcome, options: RunOptions) -> Iterator[str]:
    """Yield the report for a person, line by line."""
    verdict = outcome.verdict
    by_kind = _by_kind(outcome)
    yield ""
    yield f"{'fault':<16}{'times':>6}{'recovery':>10}{'worst':>8}{'in flight':>11}{'lost':>6}   0 s {'─' * (_COLUMNS - 10)} {options.seconds:.0f} s"
    for kind, incidents in by_kind.items():
        figures = _figures(incidents)
        mean, worst = (
            f"{figures[name]:.1f} s" if figures[name] is not None else "-"
            for name in ("recovery_s", "worst_s")
        )
        yield (
            f"{kind:<16}{figures['times']:>6}{mean:>10}{worst:>8}{figures['in_flight']:>11}{figures['lost']:>6}   "
            f"{_timeline(incidents, options.seconds)}"
        )
    for kind, reason in outcome.impossible.items():
        yield f"{kind}: not possible here: {reason}"
    yield ""
    faults = sum(one.done for one in outcome.incidents)
    restarts = sum(outcome.restarts.values())
    yield (
        f"{faults} faults in {options.seconds:.0f} s, seed {options.seed}; {restarts} processes were started again; "
        f"workers: {options.real_workers} with the packaged model, {3 - options.real_workers} with a stand-in"
    )
    yield from totals(verdict)
    if outcome.settled_s is not None:
        yield f"settled {outcome.settled_s:.1f} s after the load"
    else:
        yield "it did not settle in time"
    yield "recovery: from being put right until everyone affected says that it is ready; each is asked every 0.4 s"
    yield from problems(verdict)
    yield from _some("UNWELL", outcome.unwell)
    yield from _some("not done", outcome.not_done)


def totals(verdict: Verdict) -> Iterator[str]:
    """Yield the sums of a verdict."""
    yield (
        f"given {verdict.given}: refused by an edge with a reason {len(verdict.refused)}, captured {verdict.captured}"
    )
    yield (
        f"captured {verdict.captured}: recorded {len(verdict.recorded)}, told to a person {len(verdict.told)}, "
        f"LOST {len(verdict.lost)}, duplicates {len(verdict.duplicates)}"
    )
    for reason, count in _reasons(verdict).items():
        yield f"  told: {count} x {reason}"


def problems(verdict: Verdict) -> Iterator[str]:
    """Yield what is wrong, each with what is known of it."""
    yield from _some("LOST", [f"picture {number}: {known}" for number, known in verdict.lost.items()])
    yield from _some("DOUBLED", verdict.duplicates)
    yield from _some("SEQUENCE", verdict.gaps)
    yield from _some("UNREADABLE", verdict.unreadable)
    if verdict.strangers:
        yield f"STRANGE: {verdict.strangers} frames in the record were never given"
    yield from _some(
        "recorded though a person was told otherwise",
        [f"picture {number}: {reason}" for number, reason in verdict.contradicted.items()],
    )


def _some(title: str, sentences: list[str]) -> Iterator[str]:
    for sentence in sentences[:_SHOWN]:
        yield f"{title}: {sentence}"
    if len(sentences) > _SHOWN:
        yield f"{title}: and {len(sentences) - _SHOWN} more"


def _by_kind(outcome: Outcome) -> dict[str, list[Incident]]:
    by_kind: dict[str, list[Incident]] = {}
    for incident in outcome.incidents:
        if incident.done:
            by_kind.setdefault(incident.event.kind, []).append(incident)
    return dict(sorted(by_kind.items()))


def _figures(incidents: list[Incident]) -> dict[str, Any]:
    recoveries = [one.recovery_s for one in incidents if one.recovery_s is not None]
    return {
        "times": len(incidents),
        "recovery_s": round(sum(recoveries) / len(recoveries), 2) if recoveries else None,
        "worst_s": round(max(recoveries), 2) if recoveries else None,
        "in_flight": sum(one.in_flight for one in incidents),
        "lost": sum(one.lost for one in incidents),
    }


def _timeline(incidents: list[Incident], seconds: float) -> str:
    """Return when a kind's faults stood, the darker the longer."""
    filled = [0.0] * _COLUMNS
    width = seconds / _COLUMNS
    for one in incidents:
        begin = one.began_s or 0.0
        end = max(one.undone_s or begin, begin + width / 4)
        for column in range(_COLUMNS):
            filled[column] += max(0.0, min(end, (column + 1) * width) - max(begin, column * width)) / width
    return "".join(
        _MARKS[min(len(_MARKS) - 1, 1 + int(share * (len(_MARKS) - 2)))] if share > 0 else "·"
        for share in filled
    )


def _reasons(verdict: Verdict) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in (*verdict.told.values(), *verdict.refused.values()):
        code = reason.split(":")[0] if not reason.startswith("parked: ") else reason[:60]
        counts[code] = counts.get(code, 0) + 1
    return dict(sorted(counts.items()))
