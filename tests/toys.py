"""Small problems that several tests attack: linear maps with a known spectrum, and a network of a few weights."""

import functools

import numpy as np
import torch

from ir_helpers import operators


def matrix_with_spectrum(spectrum, rows=None, columns=None, *, seed=0):
    """A float64 matrix with these singular values and random singular vectors."""
    rng, count = np.random.default_rng(seed), len(spectrum)
    U, V = (np.linalg.qr(rng.standard_normal((size or count, count)))[0] for size in (rows, columns))
    return torch.from_numpy((U * spectrum) @ V.T)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gaussian_inverse():
    """(M, y, x): the pseudo-inverse of the book's Gaussian operator and eight images of [0, 1] with their data."""
    A = operators.gaussian(100, (1, 28, 28)).to(torch.float64)
    x = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.pinv(A.matrix()), A(x), x.flatten(1)


def linear_problem(M, misfit, *, count=16, seed=1, dtype=torch.float64):
    """(f, y, x) for f(y) = M y, where x differs from f(y) by noise of the norm ``misfit`` on average."""
    y = normal(count, M.shape[1], seed=seed)
    x = y @ M.T + misfit / M.shape[0] ** 0.5 * normal(count, M.shape[0], seed=seed + 1)
    M = M.to(dtype)
    return (lambda v: v @ M.T), y.to(dtype), x.to(dtype)


def errors(f, y, x):
    """‖f(y) − x‖² of each sample, summed in float64."""
    with torch.no_grad():
        return (f(y) - x).double().square().flatten(1).sum(1)


class SmallNet(torch.nn.Module):
    """A pseudo-inverse and a correction by three convolutions, with random weights: smooth by tanh, or piecewise linear."""

    def __init__(self, A, *, activation=torch.nn.Tanh, seed=0):
        super().__init__()
        rng, self.shape = torch.Generator().manual_seed(seed), A.image_shape
        self.register_buffer("inverse", torch.linalg.pinv(A.matrix().double()).to(A.dtype))
        sizes = [(16, 1), (16, 16), (1, 16)]
        self.convolutions = torch.nn.ModuleList([torch.nn.Conv2d(i, o, 3, padding=1) for o, i in sizes])
        self.activation = activation()
        with torch.no_grad():
            for weights in self.parameters():
                scale = weights[0].numel() ** -0.5 if weights.ndim > 1 else 0.1
                weights.copy_(scale * torch.randn(weights.shape, generator=rng))
        self.to(A.dtype)

    def forward(self, y):
        image = hidden = (y @ self.inverse.T).reshape(-1, *self.shape)
        first, second, last = self.convolutions
        hidden = self.activation(second(self.activation(first(hidden))))
        return image + 0.5 * last(hidden)


def small_net_problem(*, activation=torch.nn.Tanh, count=8, dtype=torch.float32, seed=0):
    """(net, A, x): ``SmallNet`` in evaluation mode, and random smooth images."""
    A = operators.gaussian(60, (1, 12, 12)).to(dtype)
    rough = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = torch.nn.functional.interpolate(rough, 12, mode="bicubic").clamp(0, 1).to(dtype)
    return SmallNet(A, activation=activation).eval(), A, x


@functools.cache
def small_scan():
    """A float64 scan of three rectangles, with a little noise: (A, x, y)."""
    A = operators.parallel_beam(24, 12).to(torch.float64)
    x = torch.zeros(3, 1, 24, 24, dtype=torch.float64)
    x[0, :, 6:16, 8:18], x[1, :, 4:10, 9:20], x[2, :, 10:18, 5:13] = 0.8, 0.5, 1.0
    noise = torch.randn(3, *A.data_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return A, x, A(x) + 0.005 * noise
