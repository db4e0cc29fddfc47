"""``hemolink demo``: the whole system on this machine."""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

DEFAULT_PORT = 8080


@click.command()
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Frames from a folder of images instead of simulated patients.",
)
@click.option("--frames", type=click.IntRange(1), help="End the capture after so many frames.")
@click.option(
    "--broker",
    type=click.Choice(["embedded", "mosquitto"]),
    default="embedded",
    show_default=True,
    help="mosquitto: the one that is installed on this machine.",
)
@click.option(
    "--model",
    default="resnet34-simulated",
    show_default=True,
    help="A model package: its name ('hemolink model list') or its folder.",
)
@click.option(
    "--once", is_flag=True, help="End when every captured frame is recorded or refused with a reason."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port of the page; 0: any free one. Without it {DEFAULT_PORT}, or a free one if that is taken.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the simulated patients."
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep settings, logs, spool and record in this new folder.",
)
@click.option("--json", "as_json", is_flag=True, help="The last line of standard output is one JSON object.")
def demo(*, keep: Path | None, as_json: bool, port: int | None, **choices: Any) -> None:
    """See the whole system run: microscope, broker, worker, and the page that a clinician watches.

    Everything runs on this machine's loopback. The patients are SIMULATED, and so is what the models learnt from.
    """
    from broker_config.errors import ContractError  # noqa: PLC0415 - the demo alone pays for what it starts
    from broker_config.process import Shutdown  # noqa: PLC0415
    from hemolink.console import console_for  # noqa: PLC0415
    from hemolink.demo import Demo, port_is_free  # noqa: PLC0415
    from hemolink.demo_settings import DemoOptions  # noqa: PLC0415
    from hemolink.errors import FrontDoorError  # noqa: PLC0415

    console = console_for(as_json=as_json)
    if port is None:
        port = DEFAULT_PORT if not choices["once"] and port_is_free(DEFAULT_PORT) else 0
    elif port and not port_is_free(port):
        raise click.ClickException(
            f"port {port} is taken: end what listens there, or name another with --port"
        )
    images: Path | None = choices["images"]
    if images is not None and not any(path.is_file() for path in images.iterdir()):
        raise click.ClickException(f"{images} holds no files: name a folder that holds images itself")
    options = DemoOptions(port=port, **choices)
    shutdown = Shutdown()
    shutdown.install()
    with ExitStack() as stack:
        directory = _folder(keep, stack)
        run = Demo(options, directory=directory, console=console, stopping=shutdown.requested)
        fault = ""
        console.say("Hemolink starts")
        try:
            run.start()
            run.run()
        except (FrontDoorError, ContractError) as error:
            fault = str(error)
        finally:
            run.stop()
    tally = run.tally
    console.say(f"Stopped. {tally.line()}.")
    for code, count in sorted(tally.reasons.items()):
        console.say(f"  refused: {count} x {code}")
    if keep is not None:
        console.say(f"Settings, logs and record are in {directory}.")
    if fault:
        console.say(f"Fault: {fault}")
    if as_json:
        result = tally.as_json() | {"broker": options.broker, "simulated": True}
        click.echo(json.dumps(result | ({"fault": fault} if fault else {})))
    if fault or tally.lost or (options.once and not tally.complete):
        raise SystemExit(1)


def _folder(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hemolink-demo-")))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise click.ClickException(f"{keep} is not empty: name a new or an empty folder with --keep")
    except OSError as error:
        raise click.ClickException(
            f"cannot write to {keep}: {error.strerror}; name another folder"
        ) from error
    return keep.resolve()
