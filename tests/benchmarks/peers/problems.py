"""What is attacked: the shipped networks, and linear reconstructions whose worst error is known."""

from dataclasses import dataclass

import torch

from ir_helpers import attacks, classical, datasets, networks, operators, robustness
from ir_helpers.catalogue import EXPERIMENTS

__all__ = ["PROBLEMS", "Problem", "linear_maps", "problems"]

# By device, what is attacked unless something else is asked for: on a CPU the networks of CT would take days, those of faces
# hours. These need the portraits of IR_DATA_DIR.
PROBLEMS = {
    "cpu": ("linear", *(name for name in networks.list_pretrained() if name.startswith("mnist-"))),
    "cuda": tuple(name for name in networks.list_pretrained() if not name.startswith("mnist-")),
}


@dataclass(frozen=True)
class Problem:
    """A reconstruction, its data and targets, and one radius for all samples, since the peers take no other."""

    name: str
    kind: str
    reconstruct: object
    y: torch.Tensor
    x: torch.Tensor
    radius: float
    optimum: float = float("nan")  # mean worst error, where it is known


def problems(names, device, *, images):
    """Yield the problems of each name: "linear" for the three maps, else a network such as "mnist-gaussian/plain"."""
    for name in names:
        if name == "linear":
            yield from linear_maps(device, images=images)
        else:
            yield _network(name, device, images)


def _network(name, device, images):
    """Return a network's problem, with ε of its experiment; where that is a share of ‖y‖, the mean of these ε."""
    f = networks.pretrained(name).to(device).requires_grad_(False)
    experiment = EXPERIMENTS[name.split("/")[0]]
    # Of the CT slices for judging, those that come with the book.
    x = datasets.ct_slices("test", count=16) if name.startswith("ct/") else experiment.images("test")
    x = x[:images].to(device)
    y = experiment.data(f.operator, x)
    radius = experiment.radius * (y.flatten(1).norm(dim=1).mean().item() if experiment.relative else 1)
    return Problem(name, "network", f, y, x, radius)


def linear_maps(device, *, images):
    """Yield three linear reconstructions, with the mean error of ``attacks.exact_worst_case``."""
    x = datasets.digits("test", count=images)
    slices = torch.nn.functional.avg_pool2d(datasets.ct_slices("test", count=16), 8)
    G, D = (make(100, (1, 28, 28)) for make in (operators.gaussian, operators.dct_block))
    C = operators.parallel_beam(32, 24)
    weight = 0.01 * operators.operator_norm(D) ** 2
    yield _linear("pseudo-inverse, Gaussian", G, lambda y: classical.pseudo_inverse(G, y), x, 2.0, device)
    yield _linear(
        "Tikhonov, DCT block", D, lambda y: classical.tikhonov(D, y, weight, iterations=300), x, 2.0, device
    )
    radius = 0.02 * C(slices).flatten(1).norm(dim=1).mean().item()
    yield _linear("FBP, 32²", C, lambda y: classical.fbp(C, y), slices, radius, device)


def _linear(name, A, f, x, radius, device):
    unit_vectors = torch.eye(torch.Size(A.data_shape).numel())
    M = f(unit_vectors.reshape(-1, *A.data_shape)).flatten(1).T.contiguous()
    y = A(x)

    def reconstruct(data):
        return (data.flatten(1) @ M.T.to(data.device)).reshape(-1, *A.image_shape)

    worst = attacks.exact_worst_case(M, y, x, radius)
    optimum = robustness.squared_error(reconstruct(y + worst), x).mean().item()
    M = M.to(device)
    return Problem(name, "linear", reconstruct, y.to(device), x.to(device), radius, optimum)
