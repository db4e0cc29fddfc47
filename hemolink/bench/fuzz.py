"""``hemolink bench fuzz``: hostile messages against worker, record and edge, while good frames flow."""

import json
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hemolink.bench.hostile.attack import Attack
    from hemolink.bench.hostile.report import Report
    from hemolink.bench.hostile.site import Site
    from hemolink.console import Console

MAX_WORST_S = 60.0


@click.command()
@click.option(
    "--messages", type=click.IntRange(50), default=10_000, show_default=True, help="Hostile messages to send."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the messages.")
@click.option("--model", help="A model package for the worker; a stand-in that costs nothing, unless given.")
@click.option(
    "--aftermath/--no-aftermath",
    default=True,
    help="Afterwards: raw bytes at the embedded broker, a second edge and worker of the same names, a restart.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep settings, logs, spool and record in this new folder.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def fuzz(
    *, messages: int, seed: int, model: str | None, aftermath: bool, keep: Path | None, as_json: bool
) -> None:
    """Send malformed messages to a whole site and see that nothing falls, grows, vanishes or leaks.

    Mosquitto without access rules, worker, record and edge run as processes of their own on this machine's loopback.
    Every message must be counted by whoever it was for, and every good frame that flows beside them must be recorded
    exactly once.
    """
    from broker_config.errors import ContractError  # noqa: PLC0415 - the bench alone pays for what it starts
    from broker_config.process import Shutdown  # noqa: PLC0415
    from hemolink.bench.hostile.attack import Attack  # noqa: PLC0415
    from hemolink.bench.hostile.mqtt import BrokerHungUp  # noqa: PLC0415
    from hemolink.bench.hostile.site import Site  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    shutdown = Shutdown()
    shutdown.install()
    with ExitStack() as stack:
        if keep is not None:
            if keep.exists() and any(keep.iterdir()):
                raise click.ClickException(f"{keep} is not empty: name a new folder with --keep")
            keep.mkdir(parents=True, exist_ok=True)
            directory = keep.resolve()
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hemolink-fuzz-")))
        site = Site(directory, model=model)
        stack.callback(site.stop)
        try:
            site.start_broker()
            attack = Attack(site, seed=seed, say=console.say, stopping=shutdown.requested.is_set)
            stack.callback(attack.stop)
            console.say(f"Broker, record, worker and edge start among junk (seed {seed})")
            attack.start()
            report = _run(
                attack,
                site,
                console,
                messages=messages,
                seed=seed,
                aftermath=aftermath,
                stop=shutdown.requested.is_set,
            )
        except (ContractError, FrontDoorError, BrokerHungUp) as error:
            raise click.ClickException(str(error)) from error
        for line in report.lines():
            console.say(line)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    if shutdown.requested.is_set():
        raise click.ClickException("interrupted: the figures are those up to then")
    if not report.holds:
        raise click.ClickException(f"{len(report.findings.faults)} faults: see above")


def _run(
    attack: "Attack",
    site: "Site",
    console: "Console",
    *,
    messages: int,
    seed: int,
    aftermath: bool,
    stop: Any,
) -> "Report":
    from hemolink.bench.hostile.attack import ROUND  # noqa: PLC0415 - as above
    from hemolink.bench.hostile.ledger import DAEMONS  # noqa: PLC0415
    from hemolink.bench.hostile.report import DaemonReport, Report  # noqa: PLC0415
    from hemolink.bench.hostile.site import folder_mb  # noqa: PLC0415

    disk_before = {role: folder_mb(watched.directory) for role, watched in site.daemons.items()}
    began, sent, number = time.monotonic(), 0, 0
    while sent < messages and not stop():
        size = min(ROUND, messages - sent)
        attack.round(number, size=size)
        attack.look()
        sent, number = sent + size, number + 1
        console.live(_progress(attack, site, sent=sent, messages=messages, seconds=time.monotonic() - began))
    seconds = time.monotonic() - began
    attack.drain()
    reasons = {role: attack.ledger.reasons(role) for role in DAEMONS}
    heard = {role: attack.ledger.heard(role) for role in DAEMONS}
    attack.look(everywhere=True)
    daemons = {
        role: DaemonReport(
            sent=heard[role],
            counted=reasons[role].total(),
            reasons=reasons[role],
            rss_mb=list(site.daemons[role].rss_mb),  # a restart begins anew
            disk_mb=(disk_before[role], folder_mb(site.daemons[role].directory)),
            log_mb=site.daemons[role].log_bytes / 1e6,
        )
        for role in DAEMONS
    }
    messages_sent = attack.findings.sent.total()  # what the aftermath sends comes on top
    extra: dict[str, Any] = {"spent_s": {name: round(spent, 1) for name, spent in attack.spent_s.items()}}
    if aftermath and not stop():
        extra |= _aftermath(attack, site, console, messages=messages, seed=seed, stop=stop)
    report = Report(
        findings=attack.findings,
        messages=messages_sent,
        seed=seed,
        daemons=daemons,
        unaccounted=attack.ledger.unaccounted.total(),
        good=_good(attack),
        seconds=seconds,
        pages=attack.browser.fetched,
        extra=extra,
    )
    _judge(report, site)
    return report


def _aftermath(
    attack: "Attack", site: "Site", console: "Console", *, messages: int, seed: int, stop: Any
) -> dict[str, Any]:
    from hemolink.bench.hostile import aftermath, embedded_attack  # noqa: PLC0415 - as above

    extra: dict[str, Any] = {}
    console.say("A second edge and a second worker of the same names")
    extra["twins"] = aftermath.twins(attack, site)
    console.say("A flood of dead letters, and a genuine one among them")
    extra["dead_letter_found"] = aftermath.told(attack, seed=seed)
    console.say("Every daemon starts again, on top of what was left behind")
    extra["restart_s"] = aftermath.restart(attack, site)
    console.say("Raw bytes at the port of the embedded broker")
    extra["embedded"] = embedded_attack.attack(
        site.directory,
        strikes=max(100, messages // 40),
        seed=seed,
        blame=attack.findings.blame,
        stopping=stop,
    )
    attack.drain()
    return extra


def _progress(attack: "Attack", site: "Site", *, sent: int, messages: int, seconds: float) -> str:
    share = sent / messages
    bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
    memory = " ".join(f"{role} {watched.rss_mb[-1]:.0f}" for role, watched in site.daemons.items())
    left = seconds / share - seconds
    return (
        f"{bar} {sent}/{messages} · {sent / seconds:.0f}/s · {left:.0f} s left · MB: {memory} · "
        f"{len(attack.findings.faults)} faults"
    )


def _good(attack: "Attack") -> dict[str, Any]:
    frames = attack.browser.good_frames()
    recorded = [frame for frame in frames if frame.get("recorded_at")]
    waits = sorted(
        (
            datetime.fromisoformat(frame["recorded_at"]) - datetime.fromisoformat(frame["captured_at"])
        ).total_seconds()
        for frame in recorded
    )
    return {
        "sent": attack.findings.good_sent,
        "recorded": len({frame["frame_id"] for frame in recorded}),
        "duplicates": len(recorded)
        - len({frame["image_sha256"] for frame in recorded})
        + sum(len(frame["diagnoses"]) - 1 for frame in recorded),
        "half_s": round(median(waits), 2) if waits else None,
        "worst_s": round(waits[-1], 2) if waits else None,
    }


def _judge(report: "Report", site: "Site") -> None:
    """Add to the findings what only the whole run shows."""
    from hemolink.bench.hostile.ledger import MALFORMED  # noqa: PLC0415 - as above
    from hemolink.bench.hostile.report import MAX_GROWTH_MB  # noqa: PLC0415 - as above
    from hemolink.bench.hostile.site import (  # noqa: PLC0415
        LOG_BYTES,
        LOG_BYTES_A_MESSAGE,
        MAX_DEAD_LETTER_BYTES,
        MAX_DEAD_LETTERS,
        folder_mb,
    )

    blame, good = report.findings.blame, report.good
    if good["recorded"] != good["sent"] or good["duplicates"]:
        blame(
            f"of {good['sent']} good frames {good['recorded']} were recorded, and {good['duplicates']} twice"
        )
    elif good["worst_s"] is not None and good["worst_s"] > MAX_WORST_S:
        blame(f"a good frame took {good['worst_s']} s to be recorded; {MAX_WORST_S:.0f} s are allowed")
    for role, row in report.daemons.items():
        if row.growth_mb > MAX_GROWTH_MB:
            blame(
                f"the {role} grew by {row.growth_mb:.0f} MB after its warm-up; {MAX_GROWTH_MB:.0f} MB are allowed"
            )
        refused = sum(count for reason, count in row.reasons.items() if reason in MALFORMED)
        if refused < report.findings.malformed[role]:
            blame(
                f"the {role} was sent {report.findings.malformed[role]} malformed messages and counts {refused} as such"
            )
        limit = (LOG_BYTES + LOG_BYTES_A_MESSAGE * report.messages) / 1e6
        if row.log_mb > limit:
            blame(f"the {role} logged {row.log_mb:.1f} MB; {limit:.1f} MB are allowed for so many messages")
    letters = site.daemons["worker"].directory / "dead-letters"
    count = sum(1 for _ in letters.glob("*.json"))
    if count > MAX_DEAD_LETTERS or folder_mb(letters) > MAX_DEAD_LETTER_BYTES / 1e6 + 1:
        blame(f"the worker keeps {count} dead letters of {folder_mb(letters):.1f} MB: beyond its bounds")
