"""Networks that work with an operator: from data to an image, and from data to a perturbation of it."""

import math

import torch
from torch import nn

from ir_helpers import classical
from ir_helpers.linear_operator import check_data, check_operator

__all__ = ["LinearReconstructor", "Perturber", "Reconstructor"]

_STARTS = {"adjoint": lambda A, y: A.T(y), "fbp": classical.fbp, "smooth": classical.smooth_inverse}
_IMAGES = ("fbp", "smooth")  # starts that a network corrects


class _OverOperator(nn.Module):
    """A network that works with an operator A, which follows it to another device or floating type."""

    def __init__(self, A):
        super().__init__()
        check_operator(A)
        self.operator = A

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        moved = fn(torch.empty(0, dtype=self.operator.dtype, device=self.operator.device))
        self.operator = self.operator.to(moved.device).to(moved.dtype)
        return self


class Reconstructor(_OverOperator):
    """Reconstruct in two steps: a formula leads from data to the image domain, and a network does the rest.

    From the adjoint the network makes the image, f(y) = network(Aᵀ y). Filtered back-projection, and ``smooth_inverse`` where
    there are few measurements, give an image already, which the network corrects: f(y) = x₀ + network(x₀), as in FBPConvNet.

    Parameters
    ----------
    A : LinearOperator
        Kept as ``operator``.
    network : torch.nn.Module
        Maps images (B, \\*A.image_shape) to images.
    start : {"adjoint", "fbp", "smooth"}
        The formula.

    References
    ----------
    K. H. Jin et al., IEEE Trans. Image Process. 26 (2017), doi:10.1109/TIP.2017.2713099.
    """

    def __init__(self, A, network, *, start="adjoint"):
        super().__init__(A)
        if start not in _STARTS:
            raise ValueError(f"start must be one of {sorted(_STARTS)}, got {start!r}")
        _check_type(A, network)
        self.network, self.start = network, start

    def forward(self, y):
        """Return x̂, shape (B, \\*image_shape), for data (B, \\*data_shape)."""
        _check_device(self.operator, y)
        with torch.autocast(y.device.type, enabled=False):  # the operator keeps its precision
            start = _STARTS[self.start](self.operator, y)
        image = self.network(start).to(start.dtype)
        if image.shape != start.shape:
            raise ValueError(
                f"network must keep the shape {tuple(start.shape)} of A's images, it gave {tuple(image.shape)}"
            )
        return start + image if self.start in _IMAGES else image


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
        check_data(self.operator, y)
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
    start : {"adjoint", "fbp", "smooth"}
        B, as for ``Reconstructor``.
    """

    def __init__(self, A, network, *, sees_error=False, start="adjoint"):
        super().__init__(A)
        if start not in _STARTS:
            raise ValueError(f"start must be one of {sorted(_STARTS)}, got {start!r}")
        _check_type(A, network)
        self.network, self.sees_error, self.start = network, sees_error, start

    def forward(self, y, estimate, x=None):
        """Return δ of the shape of y, of any length, for the data y, the estimate f(y) and, if G sees the error, x."""
        if self.sees_error and x is None:
            raise ValueError("x must be given: this network sees the error f(y) - x")
        A, B = self.operator, _STARTS[self.start]
        _check_device(A, y)
        with torch.autocast(y.device.type, enabled=False):
            seen = [B(A, y), estimate, B(A, A(estimate) - y)]
            seen += [estimate - x] if self.sees_error else []
        image = self.network(torch.cat(seen, 1))
        with torch.autocast(y.device.type, enabled=False):
            return A(image.to(y.dtype))


def _check_device(A, y):
    # The rest is checked by the operator; autocast must know the device before.
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"y must be a floating-point torch.Tensor, got {type(y).__name__}")
    if y.device != A.device:
        raise TypeError(f"y is on the device {y.device}, A on {A.device}: pass y.to(A.device)")


def _check_type(A, network):
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    for weight in network.parameters():
        if weight.is_floating_point() and weight.dtype != A.dtype:
            raise TypeError(f"A has dtype {A.dtype}, network {weight.dtype}: pass A.to({weight.dtype})")
