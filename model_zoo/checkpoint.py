"""Checkpoints of a training run: tensors in safetensors, everything else in JSON; nothing is pickled."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model_zoo.errors import TrainingError

TENSORS_FILE: Final = "checkpoint.safetensors"
STATE_FILE: Final = "checkpoint.json"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        stage: Number of the stage to go on with.
        epoch: Epochs of it that are done.
        history: One entry an epoch: stage, epoch, loss, seconds, and figures on the calibration part.
    """

    stage: int = 0
    epoch: int = 0
    history: tuple[dict[str, Any], ...] = field(default=())


def save_checkpoint(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None, progress: Progress
) -> None:
    """Write a checkpoint; the one before stays whole until the new one is."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    steps: dict[str, float] = {}
    if optimizer is not None:
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        for parameter, state in optimizer.state.items():
            name = names[id(parameter)]
            steps[name] = float(state["step"])
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"optimizer.{key}.{name}"] = state[key].contiguous()
    number = progress.stage * 10_000 + progress.epoch
    tensors_name = f"checkpoint-{number}.safetensors"
    save_file(tensors, folder / tensors_name)
    state = {
        "tensors": tensors_name,
        "stage": progress.stage,
        "epoch": progress.epoch,
        "history": list(progress.history),
        "optimizer_steps": steps,
    }
    partial = folder / f"{STATE_FILE}.partial"
    partial.write_text(json.dumps(state, indent=1), encoding="utf-8")
    partial.replace(folder / STATE_FILE)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != tensors_name:
            old.unlink()


def load_checkpoint(
    folder: Path, network: nn.Module, *, strict: bool = True
) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Load a checkpoint into a network.

    Args:
        folder: Of the run.
        network: Filled in place.
        strict: Whether every tensor must have its counterpart; False to load without the auxiliary head.

    Returns:
        Where the run stands, and the optimizer's state by parameter name.

    Raises:
        TrainingError: If there is no checkpoint or it does not fit the network.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / state["tensors"])
        own = {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
        network.load_state_dict(own, strict=strict)
    except (OSError, KeyError, json.JSONDecodeError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"no usable checkpoint in {folder} ({type(error).__name__}: {str(error).splitlines()[0]}): "
            "start the run again without --resume, with the settings it had"
        ) from error
    moments = {
        name: {
            "step": torch.tensor(steps),
            "exp_avg": tensors[f"optimizer.exp_avg.{name}"],
            "exp_avg_sq": tensors[f"optimizer.exp_avg_sq.{name}"],
        }
        for name, steps in state["optimizer_steps"].items()
    }
    return Progress(state["stage"], state["epoch"], tuple(state["history"])), moments


def restore_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, moments: dict[str, dict[str, Tensor]]
) -> None:
    """Put saved moments back, by parameter name."""
    for name, parameter in network.named_parameters():
        if name in moments:
            optimizer.state[parameter] = dict(moments[name])
