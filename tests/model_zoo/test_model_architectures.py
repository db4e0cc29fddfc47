"""Every architecture: the same answers from every engine, features as stated, and a map that follows the gradient."""

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

CLOSED = ("resnet34", "densenet121", "efficientnet-lite0", "convnext-atto")


def network_of(name):
    import torch  # noqa: PLC0415 - seconds to import

    from model_zoo.architecture import SmearNetwork  # noqa: PLC0415

    torch.manual_seed(3)
    return SmearNetwork(name).eval(), torch.randn(2, 3, 224, 224)


@pytest.mark.parametrize("name", [*CLOSED, "vit-tiny"])
def test_features_and_maps_have_the_stated_shapes(name):
    network, images = network_of(name)
    logits, features, activation = (part.detach() for part in network(images))
    assert logits.shape == (2, 5)
    assert activation.shape == (2, 5, 7, 7)
    bounds = network.feature_bounds
    assert bounds["last"] == (0, network.head.in_features)
    assert features.shape[1] == max(stop for _, stop in bounds.values())
    assert network.head(features[:, : bounds["last"][1]]).allclose(logits, atol=1e-5)
    small = images[:, :, :128, :128]
    trained, _, pooled = network.train_outputs(small)
    assert (trained.shape, pooled.shape) == ((2, 5), (2, network.head.in_features))


@pytest.mark.parametrize("name", CLOSED)
def test_maps_in_closed_form_are_those_of_the_gradient(name):
    from torch import cosine_similarity  # noqa: PLC0415

    from model_zoo.gradient import gradient_maps  # noqa: PLC0415

    network, images = network_of(name)
    closed, by_gradient = network(images)[2].detach(), gradient_maps(network, images)
    assert float(cosine_similarity(closed.flatten(2), by_gradient.flatten(2), dim=2).min()) > 0.9999


def test_a_transformers_map_follows_what_moves_its_answer():
    from model_zoo.gradient import gradient_maps  # noqa: PLC0415

    network, images = network_of("vit-tiny")
    assert not network(images)[2].any()
    maps = gradient_maps(network, images)
    assert maps.shape == (2, 5, 7, 7)
    assert maps.isfinite().all()
    assert not maps[0].allclose(maps[1])


def test_an_unknown_architecture_is_refused_with_those_there_are():
    from model_zoo.architecture import SmearNetwork  # noqa: PLC0415
    from model_zoo.errors import TrainingError  # noqa: PLC0415

    with pytest.raises(TrainingError, match=r"'vgg16'.*convnext-atto, vit-tiny"):
        SmearNetwork("vgg16")
