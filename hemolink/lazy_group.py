"""A click group whose commands are imported only when they are used."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click

OWN_PACKAGES = frozenset(
    {
        "hemolink",
        "broker_config",
        "edge_agent",
        "cloud_worker",
        "clinician_dashboard",
        "model_zoo",
        "smear_simulator",
    }
)
EXTRA_OF_MODULE = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "sklearn": "train",
    "skimage": "train",
    "scipy": "train",
    "joblib": "train",
    "onnx": "train",
    "onnxruntime": "train",
    "onnxscript": "train",
    "amqtt": "embedded",
}
"""Modules whose extra does not depend on the command that missed them."""


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives.

    Attributes:
        target: ``module:attribute`` of a click command.
        summary: The line that ``--help`` shows without importing the module.
        extra: The extra of the distribution that installs what the command needs, or empty.
    """

    target: str
    summary: str
    extra: str = ""


class LazyGroup(click.Group):
    """Lists its commands from a table, and imports one when it is called.

    A command whose packages are not installed ends with the name of the extra to install.
    """

    def __init__(self, *, table: Mapping[str, LazyCommand], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._table = dict(table)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the table's order."""
        return [*self._table, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or none if the table does not name it."""
        row = self._table.get(cmd_name)
        if row is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = row.target.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise missing_extra(error, command=cmd_name, extra=row.extra) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{row.target} is not a click command: mend the table in hemolink/cli.py")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a module that it misses is reported with the extra that brings it."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name = ctx.invoked_subcommand or ""
            row = self._table.get(name)
            raise missing_extra(error, command=name, extra=row.extra if row else "") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' summaries from the table: nothing is imported for ``--help``."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in self._table.items()])


def missing_extra(error: ModuleNotFoundError, *, command: str, extra: str) -> Exception:
    """Return the error to raise for a module that a command misses.

    One of our own modules is a defect and comes back as it is; any other names the extra that installs it.
    """
    module = (error.name or "").partition(".")[0]
    if not module or module in OWN_PACKAGES:
        return error
    wanted = EXTRA_OF_MODULE.get(module, extra)
    remedy = f"pip install 'hemolink[{wanted}]'" if wanted else f"pip install {module}"
    return click.ClickException(
        f"'hemolink {command}' needs the Python module {module!r}, which is not installed: {remedy}"
    )
