"""A worker whose model is a stand-in: the real daemon around a classifier that costs nothing, and that marked pictures break.

``python -m hemolink.bench.faults.stand_in --settings worker.yaml``. Two cores serve three real models beside six other
processes only so fast that nothing would be in flight; with stand-ins the queues, windows and races are as under load.
"""

import argparse
import hashlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from broker_config.messages import ModelIdentity
from cloud_worker.settings import Settings
from hemolink.bench.faults import mark
from model_zoo.predictor import Prediction

NAME = "stand-in"
_CLASSES = 5
_LABELS = ("healthy", "ALL", "AML", "CLL", "CML")
_GRID = tuple((0.0,) * 7 for _ in range(7))
_PAUSE_S = 0.004
_SIDE = 8


class StandIn:
    """A classifier of the shape that a worker expects; its answers mean nothing, and say so."""

    engine_name = "stand-in"

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def start(self) -> None:
        """There is nothing to load."""

    def stop(self) -> None:
        """Let go of a hanging inference."""
        self._stopped.set()

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return a small array whose first value is the picture's temper.

        Raises:
            ValueError: On a picture that is to be undecodable.
        """
        marked = mark.read(image)
        temper = marked[1] if marked is not None else "plain"
        if temper == "abort-decoding":
            os.abort()
        if temper == "undecodable":
            raise ValueError("a picture of which the stand-in model can make no input")
        tensor = np.full((3, _SIDE, _SIDE), image.mean() / 255, np.float32)
        tensor[0, 0, 0] = mark.TEMPERS.index(temper)
        return tensor

    def infer(self, batch: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """Answer after a moment; raise, hang or end the process if a picture of that temper is in the batch."""
        tempers = {mark.TEMPERS[round(float(tensor[0, 0, 0]))] for tensor in batch}
        if "abort" in tempers:
            os.abort()
        if "hang" in tempers:
            self._stopped.wait()
        if "raise" in tempers:
            raise RuntimeError("a picture that the stand-in model cannot bear")
        self._stopped.wait(_PAUSE_S)
        return [_answer(tensor) for tensor in batch]


def _answer(tensor: NDArray[np.float32]) -> Prediction:
    leading = int(float(tensor[1, 0, 0]) * 1000) % _CLASSES
    return Prediction(
        probabilities=tuple(0.6 if index == leading else 0.1 for index in range(_CLASSES)),
        prediction=_LABELS[leading],
        prediction_set=(_LABELS[leading],),
        decision="refer",
        reasons=("stand_in: a stand-in model answered, which knows nothing of cells",),
        ood_score=0.0,
        ood_threshold=1.0,
        activation=_GRID,
    )


def identity() -> ModelIdentity:
    """Return how the stand-in introduces itself."""
    return ModelIdentity(
        name=NAME,
        version="1",
        weights_sha256=hashlib.sha256(NAME.encode()).hexdigest(),
        engine=StandIn.engine_name,
        training_data="none: a stand-in of the fault harness",
        simulated=True,
    )


def main() -> int:
    """Read the command line and run; returns the exit code."""
    from cloud_worker.daemon import serve  # noqa: PLC0415 - the command line alone pays for it

    def model(settings: Settings) -> tuple[StandIn, ModelIdentity]:
        del settings
        return StandIn(), identity()

    parser = argparse.ArgumentParser(prog="stand_in", description="A Hemolink worker with a stand-in model.")
    parser.add_argument("--settings", type=Path, required=True, help="YAML settings file")
    return serve(parser.parse_args().settings, model=model)


if __name__ == "__main__":
    sys.exit(main())
