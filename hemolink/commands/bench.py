"""``hemolink bench``: measurements and long fault runs on this machine."""

import click

from hemolink.lazy_group import LazyCommand, LazyGroup

TABLE = {
    "faults": LazyCommand(
        "hemolink.bench.faults.command:faults", "Break everything while frames flow, and count them.", "demo"
    ),
    "edge": LazyCommand(
        "hemolink.bench.edge:edge", "How fast an edge drains its spool, and in what memory.", "demo"
    ),
    "spool": LazyCommand(
        "hemolink.bench.spool:spool", "What a frame costs in an almost empty and in a full spool.", "edge"
    ),
    "idle": LazyCommand("hemolink.bench.idle:idle", "What an edge costs while nothing happens.", "demo"),
    "worker": LazyCommand(
        "hemolink.bench.worker:worker", "The whole path of a worker beside its engine alone.", "demo"
    ),
    "storm": LazyCommand(
        "hemolink.bench.storm:storm", "Restart a broker under many edges, and watch them come back.", "edge"
    ),
    "ingest": LazyCommand(
        "hemolink.bench.ingest:ingest", "How many diagnoses a second enter the record.", "demo"
    ),
    "desk": LazyCommand(
        "hemolink.bench.desk:desk", "Worklist, search and case page with 100,000 cases.", "demo"
    ),
    "fuzz": LazyCommand(
        "hemolink.bench.fuzz:fuzz", "Malformed messages against worker, record and edge.", "demo"
    ),
}


@click.group(cls=LazyGroup, table=TABLE)
def bench() -> None:
    """Measure this installation, and try to make it lose a frame.

    Everything runs on this machine's loopback, ends by itself, and prints figures of this run.
    """
