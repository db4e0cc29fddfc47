"""The worker as a process: settings, logs, signals, exit code."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from broker_config.errors import ContractError, SettingsError
from broker_config.logs import configure
from broker_config.process import Shutdown
from broker_config.settings import load_settings
from cloud_worker.errors import EXIT_FAULT, EXIT_FINE, EXIT_SETTINGS, ModelUnusable
from cloud_worker.settings import Settings

if TYPE_CHECKING:
    from broker_config.messages import ModelIdentity
    from cloud_worker.inference import Classifier

logger = logging.getLogger(__name__)


def check(path: Path) -> int:
    """Say whether a settings file and the model it names can be used; returns the exit code."""
    from cloud_worker.model import make_predictor, open_package  # noqa: PLC0415 - imports OpenCV

    try:
        settings = load_settings(path, Settings)
        package = open_package(settings)
        make_predictor(settings, package)
    except (SettingsError, ModelUnusable) as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    print(f"{path}: fine; serves {package.name} {package.version}")
    return EXIT_FINE


def serve(
    path: Path, *, model: "Callable[[Settings], tuple[Classifier, ModelIdentity]] | None" = None
) -> int:
    """Run the worker that a settings file describes, until SIGTERM or SIGINT; returns the exit code (see `errors`).

    Args:
        path: The settings file.
        model: Makes the classifier, not started, and how it introduces itself; the package of the settings, unless
            given. For trials that need a model which fails on order.
    """
    try:
        settings = load_settings(path, Settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    from cloud_worker.worker import Worker  # noqa: PLC0415 - imports OpenCV, and bad settings should not wait for it

    configure(settings.log.level, settings.log.form)
    shutdown = Shutdown()
    shutdown.install()
    worker = Worker(settings, model=model(settings) if model else None)
    code = EXIT_FAULT
    try:
        worker.start()
        code = worker.run(shutdown.requested)
    except (SettingsError, ModelUnusable) as error:
        logger.critical("%s", error)
        code = EXIT_SETTINGS
    except ContractError as error:
        logger.critical("%s", error)
    finally:
        worker.stop()
    return code
