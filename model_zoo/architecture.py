"""The networks, through timm, with the three outputs that a package's graph has."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from model_zoo.errors import PretrainedWeightsError, TrainingError, UnsafePackageError
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage
from model_zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

NETWORK_PREFIX: Final = "network."
"""Names of the network's tensors in a weights file start with it; other tensors there belong to the package."""


@dataclass(frozen=True)
class Stage:
    """A stretch of a network's body, run in order.

    Attributes:
        modules: Dotted names in the body.
        level: Name of the features taken behind it; empty for none.
        channels: Of its output, where features are taken.
    """

    modules: tuple[str, ...]
    level: str = ""
    channels: int = 0


@dataclass(frozen=True)
class Architecture:
    """What must be known of a network beside its name.

    Attributes:
        timm_name: As timm calls it.
        stages: The body, from the image to the last feature map.
        last_stage: Prefixes of the parameters of the last stage, beside the head.
        mean: By channel, of 0..1, that its inputs are normalised with.
        std: Likewise, the deviation.
        head: How the last map becomes logits: `pool` is global average pooling and one linear layer, `pool-norm` has a layer
            norm between them, `token` is a linear layer on the class token of a transformer. The first two have Grad-CAM in
            closed form, so that every engine gives it; a token has not, and its map takes a backward pass through the last
            stage by torch (`model_zoo.gradient`).
        options: Further arguments of timm's constructor.
    """

    timm_name: str
    stages: tuple[Stage, ...]
    last_stage: tuple[str, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    head: Literal["pool", "pool-norm", "token"] = "pool"
    options: Mapping[str, Any] = field(default_factory=dict)


_HALF: Final = (0.5, 0.5, 0.5)

ARCHITECTURES: Final[dict[str, Architecture]] = {
    "resnet34": Architecture(
        "resnet34",
        (
            Stage(("conv1", "bn1", "act1", "maxpool", "layer1"), "early", 64),
            Stage(("layer2",), "middle", 128),
            Stage(("layer3", "layer4")),
        ),
        last_stage=("layer4",),
    ),
    "densenet121": Architecture(
        "densenet121",
        (
            Stage(
                (
                    *("features.conv0", "features.norm0", "features.pool0"),
                    *("features.denseblock1", "features.transition1"),
                ),
                "early",
                128,
            ),
            Stage(("features.denseblock2", "features.transition2"), "middle", 256),
            Stage(
                (
                    *("features.denseblock3", "features.transition3"),
                    *("features.denseblock4", "features.norm5"),
                )
            ),
        ),
        last_stage=("features.denseblock4", "features.norm5"),
    ),
    "efficientnet-lite0": Architecture(
        "tf_efficientnet_lite0",
        (
            Stage(("conv_stem", "bn1", "blocks.0"), "early", 16),
            # no level further in: measured on real smears, it lets more of an unseen laboratory in
            Stage(
                ("blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv_head", "bn2")
            ),
        ),
        last_stage=("blocks.6", "conv_head", "bn2"),
        mean=_HALF,
        std=_HALF,
    ),
    "convnext-atto": Architecture(
        "convnext_atto",
        (
            Stage(("stem", "stages.0"), "early", 40),
            Stage(("stages.1",), "middle", 80),
            Stage(("stages.2", "stages.3", "norm_pre")),
        ),
        last_stage=("stages.3", "head.norm"),
        head="pool-norm",
    ),
    "vit-tiny": Architecture(
        "deit_tiny_patch16_224",
        (
            Stage(("patch_embed", "_pos_embed", "norm_pre", "blocks.0", "blocks.1"), "early", 192),
            Stage(("blocks.2", "blocks.3", "blocks.4", "blocks.5"), "middle", 192),
            Stage(tuple(f"blocks.{number}" for number in range(6, 11))),
            Stage(("blocks.11", "norm")),
        ),
        last_stage=("blocks.11", "norm"),
        head="token",
        options={"dynamic_img_size": True},  # crops of cells are smaller than fields
    ),
}
"""By the name that cards and the command line have."""


class SmearNetwork(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """A timm network that ends in one linear layer.

    `forward` takes (N, 3, H, W) float32 and returns logits (N, C), features (N, D) and class activation maps
    (N, C, H/32, W/32), which are zero where the head has none in closed form. The features are what the linear layer sees
    (the pooled last feature map, normalised where the head does so, or the class token), followed by the mean and the deviation
    over the image of every channel of earlier stages: a trained network's last layer forgets what does not separate its classes
    (stain, camera, scale), which is what gives a frame from elsewhere away.
    """

    def __init__(self, architecture: str, *, classes: int = len(LABELS), kinds: int = 0) -> None:
        """Build with random weights.

        Args:
            architecture: One of `ARCHITECTURES`.
            classes: Number of classes.
            kinds: Number of cell kinds of an auxiliary head used in training; 0 leaves it out.

        Raises:
            TrainingError: If there is no such architecture.
        """
        super().__init__()
        if architecture not in ARCHITECTURES:
            msg = f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}"
            raise TrainingError(msg)
        self.architecture = architecture
        self.entry = ARCHITECTURES[architecture]
        self.body = timm.create_model(
            self.entry.timm_name, pretrained=False, num_classes=0, global_pool="", **self.entry.options
        )
        width = int(self.body.num_features)
        self.head = nn.Linear(width, classes)
        self.kind_head = nn.Conv2d(width, kinds, 1) if kinds else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer for normalised RGB images."""
        levels, last = self._run(images)
        pooled = self.pooled(last)
        features = torch.cat([pooled, *(part for level in levels for part in _moments(level))], dim=1)
        return self.head(pooled), features, self._activation(self.grid(last))

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames are made ready for it."""
        return Preprocessing(mean=self.entry.mean, std=self.entry.std)

    @property
    def feature_bounds(self) -> dict[str, tuple[int, int]]:
        """Where the features of each level lie: first, and first after; those of the last map come first."""
        start = int(self.head.in_features)
        bounds = {"last": (0, start)}
        for stage in self.entry.stages:
            if stage.level:
                bounds[stage.level] = (start, start + 2 * stage.channels)
                start += 2 * stage.channels
        return bounds

    def maps(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps of the stages that features are taken from, and the last (stride 32), each (N, D, h, w)."""
        levels, last = self._run(images)
        return levels, self.grid(last)

    def train_outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """What training needs: logits (N, C), logits of the cell kinds by place (N, K, h, w), pooled features (N, D).

        The second is None without the auxiliary head.
        """
        _, last = self._run(images)
        pooled = self.pooled(last)
        return self.head(pooled), None if self.kind_head is None else self.kind_head(self.grid(last)), pooled

    def pooled(self, last: Tensor) -> Tensor:
        """What the linear layer sees of the body's last output: (N, D)."""
        if self.entry.head == "token":
            return last[:, 0]
        centre = last.mean(dim=(2, 3))
        if self.entry.head == "pool-norm":
            norm = self.body.head.norm
            return functional.layer_norm(centre, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return centre

    def grid(self, last: Tensor) -> Tensor:
        """The body's last output as a map (N, D, h, w) of stride 32."""
        return functional.avg_pool2d(_as_map(last), 2) if self.entry.head == "token" else last

    def _run(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        levels: list[Tensor] = []
        current = images
        for stage in self.entry.stages:
            current = self.through(stage, current)
            if stage.level:
                levels.append(_as_map(current) if self.entry.head == "token" else current)
        return levels, current

    def through(self, stage: Stage, current: Tensor) -> Tensor:
        """Run one stage."""
        for name in stage.modules:
            current = self._part(name)(current)
        return current

    def _activation(self, last: Tensor) -> Tensor:
        """Class activation maps (N, C, h, w): Grad-CAM up to a factor, without a backward pass."""
        weight: Tensor = self.head.weight
        if self.entry.head == "token":
            return last[:, :1].mul(0).expand(-1, weight.shape[0], -1, -1)
        if self.entry.head == "pool-norm":
            weight = self._through_norm(last.mean(dim=(2, 3)))
        # a product, and no 1 x 1 convolution: the exporter would store the reshaped weights a second time
        return torch.matmul(weight, last.flatten(2)).unflatten(2, last.shape[2:])

    def _through_norm(self, centre: Tensor) -> Tensor:
        """Slope of every logit in the pooled map (N, D) that the layer norm sees: (N, C, D)."""
        norm = self.body.head.norm
        spread = (centre.var(dim=1, correction=0, keepdim=True) + norm.eps).sqrt()
        standard = ((centre - centre.mean(dim=1, keepdim=True)) / spread).unsqueeze(1)
        own = (self.head.weight * norm.weight).unsqueeze(0)
        along = (own * standard).mean(dim=2, keepdim=True)
        return (own - own.mean(dim=2, keepdim=True) - standard * along) / spread.unsqueeze(1)

    def _part(self, name: str) -> Callable[[Tensor], Tensor]:
        part = self.body
        for step in name.split("."):
            part = getattr(part, step)
        return part  # type: ignore[no-any-return]


def _as_map(tokens: Tensor) -> Tensor:
    """Tokens (N, 1 + h w, D) of a square image, the class token first, as a map (N, D, h, w)."""
    side = math.isqrt(tokens.shape[1] - 1)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def _moments(level: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the image of every channel: (N, C) each."""
    centre = level.mean(dim=(2, 3), keepdim=True)
    return centre.flatten(1), (level - centre).square().mean(dim=(2, 3)).add(1e-6).sqrt()


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
        weights: A safetensors file with timm's tensor names, or `model.safetensors` of a model package.

    Returns:
        Where the weights came from, for the card.

    Raises:
        PretrainedWeightsError: If the file does not fit or the hub cannot be reached. There is no silent fallback.
        UnsafePackageError: If the file is no safetensors file.
    """
    remedy = (
        "give a local safetensors file with --weights FILE (hemolink model weights makes one for efficientnet-lite0 without "
        "any hub), or train without transfer with --from-scratch"
    )
    if weights is not None:
        try:
            tensors = _body_tensors(weights)
            with safe_open(weights, "pt") as file:
                stated = (file.metadata() or {}).get("origin")
        except (OSError, SafetensorError) as error:
            msg = f"{weights} cannot be read as safetensors ({error}); pickled weights are not read"
            raise UnsafePackageError(msg) from error
        source = stated or f"file {weights.parent.name}/{weights.name}"
    else:
        hub = logging.getLogger("huggingface_hub")
        level = hub.level
        hub.setLevel(logging.CRITICAL)  # it tells of every attempt; the one message below says it all
        try:
            tensors = timm.create_model(
                network.entry.timm_name,
                pretrained=True,
                num_classes=0,
                global_pool="",
                **network.entry.options,
            ).state_dict()
        except Exception as error:
            msg = f"the hub with pre-trained {network.architecture} weights cannot be reached ({_brief(error)}): {remedy}"
            raise PretrainedWeightsError(msg) from error
        finally:
            hub.setLevel(level)
        source = "ImageNet weights from timm's hub"
    own = network.body.state_dict()
    tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
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


def _body_tensors(weights: Path) -> dict[str, Tensor]:
    """Tensors of a file by timm's names; of a model package, those of its network's body."""
    tensors = load_file(weights)
    own = f"{NETWORK_PREFIX}body."
    if any(name.startswith(own) for name in tensors):
        return {
            name.removeprefix(own): value.float() for name, value in tensors.items() if name.startswith(own)
        }
    return dict(tensors)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
