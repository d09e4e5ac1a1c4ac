"""Parseval retraction: what it does to singular values, and to which weights."""

import math

import pytest
import torch
from torch import nn
from toys import matrix_with_spectrum, normal

from ir_helpers import operators, training
from ir_helpers.parseval import Parseval
from ir_helpers.unet import UNet, conv_norm


def linear(matrix):
    """A float64 layer with this matrix."""
    layer = nn.Linear(*reversed(matrix.shape)).double()
    layer.weight.data.copy_(matrix)
    return layer


def retracted(matrix, parseval, times=1):
    layer = linear(matrix)
    for _ in range(times):
        parseval.retract(layer)
    return layer.weight.detach()


SPECTRUM = torch.tensor([0.0, 0.1, 0.7, 1.0, 1.3, 1.6, 2.0], dtype=torch.float64)
# Both Gram matrices are in use: the smaller one depends on the shape.
SHAPES = {"square": (7, 7), "wide": (7, 12), "tall": (12, 7)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@each_shape
@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_moves_singular_values_and_keeps_singular_vectors(beta, gain, shape):
    M = matrix_with_spectrum(gain * SPECTRUM.numpy(), *shape)
    U, s, Vt = torch.linalg.svd(M, full_matrices=False)
    expected = (U * ((1 + beta) * s - beta * s**3 / gain**2)) @ Vt
    assert torch.allclose(retracted(M, Parseval(beta, gain)), expected, atol=1e-12)


@each_shape
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthonormal_rows_or_columns_stay(gain, shape):
    M = gain * matrix_with_spectrum([1.0] * 7, *shape)
    assert torch.allclose(retracted(M, Parseval(0.3, gain), times=20), M, atol=1e-12)


@each_shape
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_every_singular_value_but_zero_converges_to_the_gain(gain, shape):
    M = matrix_with_spectrum(gain * SPECTRUM[1:].numpy(), *shape)
    s = torch.linalg.svdvals(retracted(M, Parseval(0.2, gain), times=80))
    assert torch.allclose(s[:6], torch.full_like(s[:6], gain), atol=1e-9)
    assert (s[6:] < 1e-7).all()  # M has rank 6, up to rounding, which grows by 1.2⁸⁰ = 2e6


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5])
def test_the_range_the_docstring_names(beta):
    # Below σ√(1 + 2/β) a value comes closer to σ or changes sides; none leaves the range, and just above it grows.
    edge = math.sqrt(1 + 2 / beta)
    before = torch.linspace(1e-3, 0.999 * edge, 200, dtype=torch.float64)
    after = retracted(before.diag(), Parseval(beta)).diagonal()
    closer = (after.abs() - 1).abs() < (before - 1).abs()
    assert (closer | ((after < 1) == (before > 1))).all()
    assert (after.abs() < edge).all()
    above = retracted(torch.tensor([[1.001 * edge]], dtype=torch.float64), Parseval(beta))
    assert above.abs().item() > 1.001 * edge


def test_a_convolution_is_the_matrix_on_its_patches():
    layer = nn.Conv2d(3, 5, 3).double()
    layer.weight.data.copy_(normal(5, 3, 3, 3) / 4)
    expected = retracted(layer.weight.detach().reshape(5, 27), Parseval(0.2, 0.8))
    Parseval(0.2, 0.8).retract(layer)
    assert torch.allclose(layer.weight.reshape(5, 27), expected, atol=1e-14)
    for _ in range(100):
        Parseval(0.2, 0.8).retract(layer)
    assert conv_norm(layer) == pytest.approx(3 * 0.8, rel=1e-9)  # k σ


def test_only_matrices_of_layers_are_touched_and_in_place():
    torch.manual_seed(0)
    net = nn.Sequential(UNet(width=3, levels=2, norm="batch"), nn.Flatten(), nn.Linear(64, 5))
    net(torch.rand(4, 1, 8, 8))
    before, objects = {k: v.clone() for k, v in net.state_dict().items()}, list(net.parameters())
    Parseval(0.1).retract(net)
    assert all(ours is theirs for ours, theirs in zip(net.parameters(), objects, strict=True))
    assert all(weights.requires_grad and weights.is_leaf for weights in net.parameters())
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    layers = (nn.Conv2d, nn.Linear)
    assert changed == {f"{name}.weight" for name, layer in net.named_modules() if isinstance(layer, layers)}


def train(parseval, **settings):
    """Return a small U-Net trained on random images, always from the same weights, and its singular values."""
    torch.manual_seed(0)
    A = operators.from_matrix(torch.eye(64), (1, 8, 8))
    f = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), UNet(width=4, levels=2))
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    training.fit(f, A, images, parseval=parseval, batch_size=4, **settings)
    layers = [layer for layer in f.modules() if isinstance(layer, nn.Conv2d)]
    return f, [torch.linalg.svdvals(layer.weight.flatten(1)) for layer in layers]


@pytest.mark.parametrize("gain", [0.5, 1.0])
def test_training_ends_near_the_gain(gain):
    settings = {"epochs": 20, "learning_rate": 1e-3}
    free, held = train(None, **settings)[1], train(Parseval(0.1, gain), **settings)[1]
    assert max((s / gain - 1).abs().max() for s in held) < 0.1
    assert max((s / gain - 1).abs().max() for s in free) > 0.5


def test_training_retracts_once_after_each_step():
    # The learning rate is too small to move a weight in float32: what is left are the retractions, one for each step.
    f, _ = train(Parseval(0.1), epochs=2, learning_rate=1e-30)
    expected, _ = train(None, epochs=1, learning_rate=1e-30)
    for position in (torch.arange(8) + 0.5) / 8:  # as strong as the learning rate at that moment
        share = min(1.0, position / 0.05) * 0.5 * (1 + math.cos(math.pi * position))
        Parseval(0.1).retract(expected, share)
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(f.parameters(), expected.parameters(), strict=True)
    )


def test_a_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        Parseval(0.1).retract(torch.nn.ReLU())


@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "0.1", None])
@pytest.mark.parametrize("name", ["beta", "gain"])
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive number, got"):
        Parseval(**{"beta": 0.1} | {name: value})
