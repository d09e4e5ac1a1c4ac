"""Learned maps y ↦ x̂, y ↦ δ, and the trained ones that come with the book."""

import json
import math

import torch
from torch import nn

from ir_helpers import classical, operators, store
from ir_helpers.linear_operator import LinearOperator
from ir_helpers.unet import UNet, conv_norm

__all__ = [
    "LinearReconstructor",
    "Perturber",
    "Reconstructor",
    "UNet",
    "conv_norm",
    "list_pretrained",
    "make_operator",
    "pretrained",
    "save",
]

_STARTS = {"adjoint": lambda A, y: A.T(y), "fbp": classical.fbp}
_OPERATORS = {"gaussian": operators.gaussian, "dct_block": operators.dct_block}
_OPERATORS["parallel_beam"] = operators.parallel_beam
_PROBES = 8  # numbers that tell two operators apart


class _OverOperator(nn.Module):
    """A network that works with an operator A, which follows it to another device or floating type."""

    def __init__(self, A):
        super().__init__()
        if not isinstance(A, LinearOperator):
            raise TypeError(f"A must be a LinearOperator, see ir_helpers.operators, got {type(A).__name__}")
        self.operator = A

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        weight = next(self.parameters())
        self.operator = self.operator.to(weight.device).to(weight.dtype)
        return self


class Reconstructor(_OverOperator):
    """Reconstruct in two steps: a formula leads from data to the image domain, and a network does the rest.

    From the adjoint the network makes the image, f(y) = network(Aᵀ y). Filtered back-projection is an image already, which
    the network corrects, f(y) = x₀ + network(x₀), as in FBPConvNet.

    Parameters
    ----------
    A : LinearOperator
        Kept as ``operator``.
    network : torch.nn.Module
        Maps images (B, \\*A.image_shape) to images.
    start : {"adjoint", "fbp"}
        The formula.

    References
    ----------
    K. H. Jin et al., IEEE Trans. Image Process. 26 (2017), doi:10.1109/TIP.2017.2713099.
    """

    def __init__(self, A, network, *, start="adjoint"):
        super().__init__(A)
        if start not in _STARTS:
            raise ValueError(f"start must be one of {sorted(_STARTS)}, got {start!r}")
        self.network, self.start = network, start

    def forward(self, y):
        """Return x̂, shape (B, \\*image_shape), for data (B, \\*data_shape)."""
        with torch.autocast(y.device.type, enabled=False):  # the operator keeps its precision
            start = _STARTS[self.start](self.operator, y)
        image = self.network(start).to(start.dtype)
        return start + image if self.start == "fbp" else image


class LinearReconstructor(_OverOperator):
    """Reconstruct by x̂ = B y with a trained n × m matrix B, without offset; B begins at zero.

    Parameters
    ----------
    A : LinearOperator
        Kept as ``operator``; gives the shapes.
    """

    def __init__(self, A):
        super().__init__(A)
        n, m = math.prod(A.image_shape), math.prod(A.data_shape)
        self.matrix = nn.Parameter(torch.zeros(n, m, dtype=A.dtype, device=A.device))

    def forward(self, y):
        """Return B y, shape (B, \\*image_shape)."""
        return (y.flatten(1) @ self.matrix.T).reshape(-1, *self.operator.image_shape)


class Perturber(_OverOperator):
    """The auxiliary network G of the min-max game: a perturbation of the data, drawn in the image domain and projected by A.

        δ = A network(B y, f(y), B (A f(y) − y)),    B the ``start`` of the reconstruction,

    so G sees the data, what f makes of them, and how far that is from explaining them. Its δ lies in Range(A), which is all of
    the data space if A has full row rank. With ``sees_error`` the error f(y) − x is a fourth image: known in training, not later.

    Parameters
    ----------
    A : LinearOperator
    network : torch.nn.Module
        From images with three times A's channels (four with ``sees_error``), stacked, to images with A's channels.
    sees_error : bool
        Whether G sees f(y) − x.
    start : {"adjoint", "fbp"}
        B, as for ``Reconstructor``.
    """

    def __init__(self, A, network, *, sees_error=False, start="adjoint"):
        super().__init__(A)
        if start not in _STARTS:
            raise ValueError(f"start must be one of {sorted(_STARTS)}, got {start!r}")
        self.network, self.sees_error, self.start = network, sees_error, start

    def forward(self, y, estimate, x=None):
        """Return δ of the shape of y, of any length, for the data y, the estimate f(y) and, if G sees the error, x."""
        if self.sees_error and x is None:
            raise ValueError("x must be given: this network sees the error f(y) - x")
        A, B = self.operator, _STARTS[self.start]
        with torch.autocast(y.device.type, enabled=False):
            seen = [B(A, y), estimate, B(A, A(estimate) - y)] + [estimate - x] * self.sees_error
        image = self.network(torch.cat(seen, 1))
        with torch.autocast(y.device.type, enabled=False):
            return A(image.to(y.dtype))


def save(name, f, operator, **notes):
    """Write a `Reconstructor` over a `UNet` as `data/weights/<name>.safetensors`, with all that is needed to load it.

    Parameters
    ----------
    name : str or pathlib.Path
        As in ``store.save_weights``.
    f : Reconstructor
    operator : dict
        How to make f.operator: ``{"factory": "gaussian", ...}`` with the arguments of that function of ``operators``.
    notes : str
        What else to keep: recipe, seed, versions, final losses.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If ``operator`` does not describe f.operator.
    """
    _check_same_operator(f.operator.to("cpu").to(torch.float32), _fingerprint(make_operator(operator)), name)
    metadata = {
        "operator": json.dumps(operator),
        "fingerprint": json.dumps(_fingerprint(make_operator(operator))),
        "network": json.dumps(f.network.settings),
        "start": f.start,
    }
    return store.save_weights(name, f.state_dict(), metadata | notes)


def pretrained(name):
    """Return a trained reconstruction network y ↦ x̂ in evaluation mode; ``f.operator`` is its A.

    Its weights are stored in half precision and computed with in single. ``f.notes`` is a dict of what is written in the
    file: recipe, seed, versions, final losses. The parameters are frozen; ``f.requires_grad_()`` frees them.

    Parameters
    ----------
    name : str or pathlib.Path
        Such as ``"mnist-gaussian/min-max"``, see ``list_pretrained``; a Path is a file of your own, made by ``save``.

    Raises
    ------
    DataError
        If there is no such file, it was altered, or the operator made here is not the one it was trained with.
    """
    if isinstance(name, str) and name not in list_pretrained():
        raise store.DataError(f"there is no network {name!r}; list_pretrained() gives {list_pretrained()}")
    tensors, notes = store.load_weights(name)
    A = make_operator(json.loads(notes["operator"]))
    _check_same_operator(A, json.loads(notes["fingerprint"]), name)
    f = Reconstructor(A, UNet(**json.loads(notes["network"])), start=notes["start"])
    f.load_state_dict(tensors)
    f.notes = notes
    return f.eval().requires_grad_(False)


def list_pretrained():
    """Return the names that ``pretrained`` knows, such as ``"mnist-gaussian/min-max"``, sorted."""
    files = store.manifest()["file"]
    ending = ".safetensors"
    return sorted(
        file[len("weights/") : -len(ending)]
        for file in files
        if file.startswith("weights/") and file.endswith(ending)
    )


def make_operator(operator):
    """Return the operator that a dict such as ``{"factory": "gaussian", ...}`` describes: arguments of ``operators``."""
    arguments = dict(operator)
    factory = arguments.pop("factory", None)
    if factory not in _OPERATORS:
        raise ValueError(f"operator must name its factory, one of {sorted(_OPERATORS)}, got {operator!r}")
    return _OPERATORS[factory](**arguments)


def _fingerprint(A):
    """Return numbers that change with any entry of A: cosines of several frequencies through A, weighted by cosines."""
    n, m = math.prod(A.image_shape), math.prod(A.data_shape)
    pixels, rays = (torch.arange(count, dtype=torch.float64) for count in (n, m))
    waves = torch.stack([torch.cos((k + 1) * (pixels + 0.5) * math.pi / n) for k in range(_PROBES)])
    weights = torch.stack([torch.cos((k + 1) * (rays + 0.5) ** 2) for k in range(_PROBES)])
    y = A(waves.reshape(-1, *A.image_shape).to(A.dtype)).flatten(1).double()
    return [y.norm().item(), *((y * weights).sum(1) / y.norm()).tolist()]


def _check_same_operator(A, expected, name):
    found = _fingerprint(A)
    gap = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, expected, strict=True))
    if gap > 1e-4:  # rounding differs between machines by 1e-6, another seed or angle by 1e-2
        raise store.DataError(
            f"{name} belongs to another operator than {A}: its fingerprint differs by {gap:.1e}"
        )
