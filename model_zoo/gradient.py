"""Grad-CAM by torch (Selvaraju et al. 2017), for networks whose head has no activation map in closed form."""

import torch
from torch import Tensor

from model_zoo.architecture import SmearNetwork


def gradient_maps(network: SmearNetwork, images: Tensor) -> Tensor:
    """Activation maps of every class by a backward pass.

    A transformer's maps are those of the patches that enter the last stage, weighted by the mean slope of the class's logit, as
    is usual: in the last stage's own output only the class token reaches the head. With any other head they are those of the
    last map, and equal the closed form up to a factor.

    Args:
        network: In evaluation mode.
        images: (N, 3, H, W), normalised.

    Returns:
        (N, C, H/32, W/32) of raw evidence, positive and negative.
    """
    stages = network.entry.stages
    before, behind = (stages[:-1], stages[-1:]) if network.entry.head == "token" else (stages, ())
    entering = images
    with torch.no_grad():
        for stage in before:
            entering = network.through(stage, entering)
    with torch.enable_grad():
        entering = entering.detach().requires_grad_(requires_grad=True)
        last = entering
        for stage in behind:
            last = network.through(stage, last)
        logits = network.head(network.pooled(last))
        slopes = [
            torch.autograd.grad(logits[:, number].sum(), entering, retain_graph=True)[0]
            for number in range(logits.shape[1])
        ]
    values = network.grid(entering.detach())
    weights = torch.stack([network.grid(slope).mean(dim=(2, 3)) for slope in slopes], dim=1)
    return torch.einsum("ncd,ndhw->nchw", weights, values)
