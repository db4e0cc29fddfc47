"""The ``hemolink`` command.

Each role's commands live in that role's package and are imported when they are called, so that ``hemolink --help``
costs nothing and a microscope host needs no web framework.
"""

import click

from hemolink import __version__
from hemolink.lazy_group import LazyCommand, LazyGroup

TABLE = {
    "demo": LazyCommand("hemolink.commands.demo:demo", "See the whole system run on this machine.", "demo"),
    "doctor": LazyCommand(
        "hemolink.commands.doctor:doctor", "Check the machine and every part, with remedies."
    ),
    "simulate": LazyCommand(
        "hemolink.commands.simulate:simulate", "Write images of simulated smears.", "edge"
    ),
    "edge": LazyCommand("edge_agent.commands:edge", "Run and steer a microscope's host.", "edge"),
    "worker": LazyCommand("cloud_worker.commands:worker", "Run a worker that classifies frames.", "worker"),
    "dashboard": LazyCommand(
        "clinician_dashboard.commands:dashboard", "Run the clinicians' page and the record.", "dashboard"
    ),
    "broker": LazyCommand("broker_config.commands:broker", "Run and configure the MQTT broker.", "embedded"),
    "bench": LazyCommand("hemolink.commands.bench:bench", "Measure, and try to make it lose a frame."),
    "model": LazyCommand("model_zoo.commands:model", "List, use, train and verify model packages.", "worker"),
}
"""Every command, by name."""


@click.group(
    cls=LazyGroup,
    table=TABLE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Decision support, not a medical device. Exit codes: 0 fine, 2 bad usage or settings, 1 otherwise.",
)
@click.version_option(__version__, prog_name="hemolink")
def cli() -> None:
    """Leukaemia screening over MQTT: microscope to worker to clinician, with the evidence."""


def main() -> None:
    """Run the command line; the console script's entry point."""
    cli(prog_name="hemolink")
