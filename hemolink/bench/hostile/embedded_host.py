"""The embedded broker as a process of its own, so that its memory and its end can be seen from outside.

``python -m hemolink.bench.hostile.embedded_host --settings FILE``, a file with the key ``directory``.
"""

import argparse
import sys
from pathlib import Path

import yaml

from broker_config.embedded import EmbeddedBroker
from broker_config.logs import configure
from broker_config.monitor import Monitor
from broker_config.process import Shutdown, announce_ports


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="embedded_host", description="The embedded broker alone.")
    parser.add_argument("--settings", type=Path, required=True, help="YAML file with the key 'directory'")
    directory = Path(yaml.safe_load(parser.parse_args().settings.read_text(encoding="utf-8"))["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    configure("INFO", "text")
    shutdown = Shutdown()
    shutdown.install()
    with EmbeddedBroker() as broker:
        monitor = Monitor(ready=lambda: (broker.running, "serving" if broker.running else "the broker ended"))
        monitor.start()
        announce_ports(directory, "embedded", {"broker": broker.port, "monitor": monitor.port})
        shutdown.requested.wait()
        monitor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
