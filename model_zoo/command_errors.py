"""How the commands of `hemolink model` end when something is wrong: one line with the thing, the cause and the remedy."""

import contextlib
import errno
from collections.abc import Iterator

import click
from safetensors import SafetensorError

from model_zoo.errors import ModelZooError


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """One line and exit code 1, no traceback, for an error that we know and for a disk that refuses.

    Raises:
        click.ClickException: Instead of a `ModelZooError`, or of a file that cannot be read or written.
    """
    try:
        yield
    except ModelZooError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise click.ClickException(_refused(error)) from error
    except SafetensorError as error:
        # what the system answered is in its words alone
        if "I/O error" not in str(error):
            raise
        raise click.ClickException(
            f"tensors cannot be written ({str(error).splitlines()[0]}): free space, or name a folder that you may write to"
        ) from error


def _refused(error: OSError) -> str:
    thing = error.filename2 or error.filename or "a file"
    cause = error.strerror or type(error).__name__
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{thing} cannot be written ({cause}): free space, or name a folder on another disk"
    return f"{thing} cannot be read or written ({cause}): check the path and its permissions, or name another"


__all__ = ["clear_errors"]
