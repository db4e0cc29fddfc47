"""``hemolink bench desk``: what the clinician's pages cost with 1,000 cases and with 100,000, side by side."""

import json

import click


@click.command()
@click.option(
    "--cases",
    default=100_000,
    show_default=True,
    type=click.IntRange(2000, 1_000_000),
    help="Cases of the large record, ten frames each; rounded to thousands.",
)
@click.option(
    "--rounds", default=40, show_default=True, type=click.IntRange(3, 10_000), help="How often each is asked."
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of cases and questions."
)
@click.option(
    "--database-url",
    "servers",
    multiple=True,
    metavar="URL",
    help="Given twice: empty databases of a PostgreSQL server, for the small and the large record; the password is taken from "
    "HEMOLINK_DATABASE_PASSWORD.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def desk(*, cases: int, rounds: int, seed: int, servers: tuple[str, ...], as_json: bool) -> None:
    """Fill two records with SIMULATED cases and time the pages of a dashboard on each.

    The first 1,000 cases are written by the record's own writer; the large record adds copies of them with keys, codes and
    days of their own. Two real daemons answer over loopback, in turn. Holds if worklist, search and case page take less than
    100 ms with the large record (95th percentile), and cost the processor at most 1.5 times what they do with the small one
    (medians), which other work on the machine does not change; where the large record has more to show on the page, this is
    told and not judged. At a server, its own processor time is not in these figures.
    """
    import tempfile  # noqa: PLC0415 - only this command pays for what it starts
    from pathlib import Path  # noqa: PLC0415

    from clinician_dashboard.errors import DashboardError  # noqa: PLC0415
    from hemolink.bench.desk_run import DeskRun, table  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    if len(servers) not in (0, 2):
        raise click.UsageError(
            "--database-url goes with two databases, one for each record: give it twice, or not at all"
        )
    console = console_for(as_json=as_json)
    cases = cases // 1000 * 1000
    with tempfile.TemporaryDirectory(prefix="hemolink-desk-") as directory:
        run = DeskRun(
            cases=cases,
            rounds=rounds,
            seed=seed,
            directory=Path(directory),
            tell=console.live,
            servers=servers,
        )
        try:
            answered = run.run()
        except (FrontDoorError, DashboardError) as error:
            raise click.ClickException(str(error)) from None
    console.say(
        f"filled in {run.fill_s:.0f} s: {cases:,} cases, {run.diagnoses:,} frames with their diagnoses, "
        f"{run.database_mb:,.0f} MB{' at a server' if servers else ''}; memory of the daemons {run.rss_mb['small']:.0f} and {run.rss_mb['large']:.0f} MB"
    )
    for line in table(answered, cases=cases):
        console.say(line)
    ok = all(one.holds for one in answered)
    console.say("holds" if ok else "DOES NOT HOLD")
    if as_json:
        result = {
            "cases": cases,
            "diagnoses": run.diagnoses,
            "database_mb": round(run.database_mb),
            "fill_s": round(run.fill_s, 1),
            "rss_mb": run.rss_mb,
            "questions": {one.question.name: one.as_json() for one in answered},
            "holds": ok,
        }
        click.echo(json.dumps(result))
    if not ok:
        raise SystemExit(1)
