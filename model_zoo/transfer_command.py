"""`hemolink model transfer`: leave every source out once, and see what is reported and wrong."""

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

import click

from model_zoo.command_errors import clear_errors

if TYPE_CHECKING:
    from model_zoo.transfer import Transfer

RULE: Final = (
    "Counted against the limit: frames that are reported and wrong; where a source's diagnosis is unknown, every frame that is "
    "reported; where a class has left with its source, no report can be right."
)


@click.command()
@click.option(
    "--run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of a finished training run: its plan is run again without each source.",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="The manifest that the run was trained on, with sources; frames without a label are asked about too.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="SOURCE[,SOURCE]",
    help="Only these sources; all of the manifest otherwise. May be repeated.",
)
@click.option(
    "--alpha", type=click.FloatRange(0.001, 0.5), default=0.01, show_default=True, help="Of the sets."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=20260711,
    show_default=True,
    help="Of the splits without a source.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def transfer(
    *, run: Path, manifest: Path, leave_out: tuple[str, ...], alpha: float, seed: int, as_json: bool
) -> None:
    """Measure what a run's recipe does on sources that its training leaves out.

    For each source a network is trained without it by the same plan, packaged, and asked about all of the source's frames
    through the path that serves. What comes out lies in the run's folder as transfer.json, and hemolink model package puts
    it into the card: the error to expect of the same sources, and of a laboratory never seen.
    """
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.packaging import PackageSettings  # noqa: PLC0415
    from model_zoo.store import FrameStore  # noqa: PLC0415
    from model_zoo.training_commands import FRAMES, REAL_FRACTIONS  # noqa: PLC0415
    from model_zoo.transfer import Leaver, as_document, write_transfer  # noqa: PLC0415

    with clear_errors():
        rows = read_manifest(manifest, unlabelled=True)
        store = FrameStore.open(run / FRAMES)
        named = [name.strip() for group in leave_out for name in group.split(",") if name.strip()]
        leaver = Leaver(
            run,
            store,
            rows,
            settings=PackageSettings("measured", alpha=alpha, strange=0),
            fractions=REAL_FRACTIONS,
            seed=seed,
            say=lambda line: click.echo(line, err=True),
        )
        found = leaver.measure(named or sorted({row.source for row in rows if row.source}))
        path = write_transfer(found, run)
    if as_json:
        click.echo(json.dumps({"path": str(path), **as_document(found)}))
        return
    click.echo("\n".join(table(found)))
    click.echo(
        f"written: {path}; next: hemolink model package --run {quote(str(run))} --transfer {quote(str(path))} --alpha {alpha:g} --name NAME --out DIR"
    )


def table(found: "Transfer") -> list[str]:
    """Lines that show a measurement."""
    head = f"{'left out':<12}{'frames':>7}{'right':>7}{'wrong':>7}{'unknown':>8}{'referred':>9}  counted against 5 %"
    lines = [head]
    for source in found.sources:
        row, counted = source.row, source.counted
        low, high = source.by_groups
        lines.append(
            f"{row.source:<12}{row.frames:>7}{row.reported_right:>7}{row.reported_wrong:>7}{row.reported_unknown:>8}"
            f"{row.referred:>9}  {100 * counted.value:.1f} % ({100 * counted.low:.1f} to {100 * counted.high:.1f}; by groups "
            f"{100 * low:.1f} to {100 * high:.1f}){'' if source.within else '  ABOVE THE LIMIT'}"
        )
        reasons = ", ".join(f"{name} {count}" for name, count in row.reasons.items()) or "none"
        forced = (
            f"; if every frame were answered, {100 * source.forced.value:.1f} % would be right"
            if source.forced
            else ""
        )
        lines.append(f"{'':<12}  referred for: {reasons}{forced}")
        if not row.identifiable:
            why = (
                "no diagnosis is known: every report counts"
                if not source.forced
                else "not identifiable: a class of it is in no other source, and no report on that class can be right"
            )
            lines.append(f"{'':<12}  {why}")
    lines += [f"{name}: not measured: {why}" for name, why in found.unmeasured.items()]
    expected = found.expectation
    lines += ["", RULE, *(part.statement for part in (expected.inside, expected.unseen) if part)]
    return lines
