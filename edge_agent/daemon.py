"""Runs the agent as a process: settings, logging, signals, exit code."""

import logging
import sys
from pathlib import Path

from broker_config.errors import SettingsError
from broker_config.logs import configure
from broker_config.process import Shutdown
from broker_config.settings import load_settings
from edge_agent.errors import EdgeError
from edge_agent.settings import Settings

logger = logging.getLogger(__name__)

EXIT_FINE, EXIT_FAULT, EXIT_SETTINGS = 0, 1, 2


def serve(path: Path) -> int:
    """Run an agent until SIGTERM or Ctrl-C; returns the exit code."""
    try:
        settings = load_settings(path, Settings)
        from edge_agent.agent import Agent  # noqa: PLC0415 - a wrong settings file is told before anything is loaded

        agent = Agent(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    configure(settings.log.level, settings.log.form)
    shutdown = Shutdown()
    shutdown.install()
    try:
        agent.start()
    except (EdgeError, SettingsError) as error:
        logger.critical("%s", error)
        return EXIT_FAULT
    agent.run(shutdown.requested)
    agent.stop()
    return EXIT_FINE


def check(path: Path) -> int:
    """Check a settings file and that its camera's kind is installed; returns the exit code."""
    try:
        settings = load_settings(path, Settings)
        from edge_agent.cameras.registry import create_camera  # noqa: PLC0415 - likewise

        camera = create_camera(settings.camera)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    print(f"{path}: fine; {settings.site}/{settings.device}, {camera.description}")
    return EXIT_FINE
