"""The networks, through timm, with the three outputs that a package's graph has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model_zoo.errors import PretrainedWeightsError, TrainingError, UnsafePackageError
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage

ARCHITECTURES: Final = ("resnet34", "densenet121")
NETWORK_PREFIX: Final = "network."
"""Names of the network's tensors in a weights file start with it; other tensors there belong to the package."""


class SmearNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """A timm network that ends in global average pooling and one linear layer.

    `forward` takes (N, 3, H, W) float32 and returns logits (N, C), features (N, D) and class activation maps
    (N, C, H/32, W/32). The features are the pooled last feature map, followed by the mean and the deviation over the
    image of every channel of an early layer: a trained network's last layer forgets what does not separate its classes
    (stain, camera, scale), which is what gives a frame from elsewhere away.
    """

    def __init__(self, architecture: str, *, classes: int = len(LABELS), kinds: int = 0) -> None:
        """Build with random weights.

        Args:
            architecture: `resnet34` or `densenet121`.
            classes: Number of classes.
            kinds: Number of cell kinds of an auxiliary head used in training; 0 leaves it out.
        """
        super().__init__()
        if architecture not in ARCHITECTURES:
            msg = f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}"
            raise TrainingError(msg)
        self.architecture = architecture
        self.body = timm.create_model(architecture, pretrained=False, num_classes=0, global_pool="")
        width = int(self.body.num_features)
        self.early_channels = {"resnet34": 64, "densenet121": 128}[architecture]
        self.head = nn.Linear(width, classes)
        self.kind_head = nn.Conv2d(width, kinds, 1) if kinds else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer for normalised RGB images."""
        early, last = self.maps(images)
        pooled = last.mean(dim=(2, 3))
        centre = early.mean(dim=(2, 3), keepdim=True)
        spread = (early - centre).square().mean(dim=(2, 3)).add(1e-6).sqrt()
        features = torch.cat([pooled, centre.flatten(1), spread], dim=1)
        # a product, and no 1 x 1 convolution: the exporter would store the reshaped weights a second time
        activation = torch.matmul(self.head.weight, last.flatten(2)).unflatten(2, last.shape[2:])
        return self.head(pooled), features, activation

    @property
    def feature_bounds(self) -> dict[str, tuple[int, int]]:
        """Where the features of the last layer and those of the early one lie: first, and first after."""
        width = int(self.head.in_features)
        return {"last": (0, width), "early": (width, width + 2 * self.early_channels)}

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps of the first stage (stride 4 or 8) and of the last (stride 32)."""
        layers = list(self._stages())
        early = images
        for layer in layers[0]:
            early = layer(early)
        last = early
        for layer in layers[1]:
            last = layer(last)
        return early, last

    def train_outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and, by place, logits of the cell kinds (N, K, h, w); needs the auxiliary head."""
        if self.kind_head is None:
            msg = "this network has no auxiliary head: build it with kinds > 0"
            raise TrainingError(msg)
        _, last = self.maps(images)
        return self.head(last.mean(dim=(2, 3))), self.kind_head(last)

    def _stages(self) -> Iterator[list[nn.Module]]:
        if self.architecture == "resnet34":
            body = self.body
            yield [body.conv1, body.bn1, body.act1, body.maxpool, body.layer1]
            yield [body.layer2, body.layer3, body.layer4]
        else:
            children = list(self.body.features.children())
            names = [name for name, _ in self.body.features.named_children()]
            cut = names.index("transition1") + 1
            yield children[:cut]
            yield children[cut:]


def load_network(package: ModelPackage) -> SmearNetwork:
    """Build a package's network with its weights, as float32, in evaluation mode."""
    network = SmearNetwork(package.card.architecture, classes=len(package.labels))
    tensors = {
        name.removeprefix(NETWORK_PREFIX): tensor.float()
        for name, tensor in load_file(package.weights_path).items()
        if name.startswith(NETWORK_PREFIX)
    }
    network.load_state_dict(without_counters(network, tensors))
    network.eval()
    return network


def without_counters(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add batch norm's step counters, which packages leave out, from the fresh network."""
    own = network.state_dict()
    return {**{name: value for name, value in own.items() if name.endswith("num_batches_tracked")}, **tensors}


def load_pretrained(network: SmearNetwork, weights: Path | None = None) -> str:
    """Load ImageNet weights into the body: from a local safetensors file, else from timm's hub.

    Args:
        network: Whose body to fill.
        weights: A safetensors file with timm's tensor names.

    Returns:
        Where the weights came from, for the card.

    Raises:
        PretrainedWeightsError: If the file does not fit or the hub cannot be reached. There is no silent fallback.
        UnsafePackageError: If the file is no safetensors file.
    """
    remedy = (
        "give a local safetensors file with --weights FILE, or train without transfer with --from-scratch"
    )
    if weights is not None:
        try:
            tensors = load_file(weights)
        except (OSError, SafetensorError) as error:
            msg = f"{weights} cannot be read as safetensors ({error}); pickled weights are not read"
            raise UnsafePackageError(msg) from error
        source = f"file {weights.name}"
    else:
        try:
            tensors = timm.create_model(
                network.architecture, pretrained=True, num_classes=0, global_pool=""
            ).state_dict()
        except Exception as error:
            msg = f"the hub with pre-trained {network.architecture} weights cannot be reached ({_brief(error)}): {remedy}"
            raise PretrainedWeightsError(msg) from error
        source = "ImageNet weights from timm's hub"
    own = network.body.state_dict()
    fitting = {
        name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape
    }
    missing = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    if missing:
        msg = (
            f"{source} lacks {len(missing)} tensors of {network.architecture} (first: {missing[0]}): {remedy}"
        )
        raise PretrainedWeightsError(msg)
    network.body.load_state_dict(fitting, strict=False)
    return source


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
