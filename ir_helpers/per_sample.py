"""Lengths and errors of the samples of a batch, right for numbers of any size.

In float32 the square of 1e-30 is 0 and that of 1e30 infinite. So samples are divided by a power of two before they are
squared. That rounds nothing: where squares stay in range, each result is the one without it, to the last bit.
"""

import torch

from ir_helpers.checks import NotFinite, check_error, holds

__all__ = [
    "check_gradient",
    "error_and_slope",
    "errors",
    "gradient",
    "in_range",
    "normalised",
    "norms",
    "powers_of_two",
    "spread",
]


def spread(values, like):
    """Return one value for each sample, (B,), in a shape that multiplies the batch ``like``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def powers_of_two(batch):
    """Return the power of two at or below the largest magnitude of each sample, 1 where all are 0; (B, 1, ...)."""
    peak = batch.detach().abs().flatten(1).amax(1)
    wide = peak.to(torch.promote_types(peak.dtype, torch.float32))  # half precision has no frexp
    fine = (wide > 0) & torch.isfinite(wide)
    ones = torch.ones_like(wide)  # not the number 1: while a CUDA graph is recorded none can be copied
    powers = torch.where(fine, wide / (2 * torch.frexp(wide).mantissa), ones)
    return spread(powers.to(batch.dtype), batch)


def norms(batch):
    """Return ‖·‖₂ of each sample, shape (B, 1, ...)."""
    scale = powers_of_two(batch)
    return scale * spread((batch / scale).flatten(1).norm(dim=1), batch)


def normalised(batch):
    """Return each sample divided by its norm; zero stays zero."""
    scaled = batch / powers_of_two(batch)
    length = spread(scaled.flatten(1).norm(dim=1), batch)
    return scaled / torch.where(length > 0, length, torch.ones_like(length))


def errors(reconstruct, y, target, scale=None):
    """Return ‖f(y) − x‖² / s² of each sample, and the scale s of the samples: powers of two near f(y) and x."""
    output = reconstruct(y)
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"reconstruct must return a torch.Tensor, it gave {type(output).__name__}")
    if output.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, but reconstruct(y) gave {tuple(output.shape)}"
        )
    if scale is None:
        scale = powers_of_two(torch.maximum(output.detach().abs(), target.abs()))
    error = ((output - target) / scale).square().flatten(1).sum(1)
    check_error(error)
    return error, scale


def gradient(error, scale, point):
    """Return s times the gradient of ``errors`` at ``point``, zero where f does not depend on its input."""
    if not error.requires_grad:
        return torch.zeros_like(point)
    (slope,) = torch.autograd.grad((scale.flatten() * error).sum(), point, allow_unused=True)
    return torch.zeros_like(point) if slope is None else slope


def check_gradient(slope):
    """Raise unless the gradients of an attack are finite."""
    if not holds(torch.isfinite(slope)):
        raise NotFinite(
            "reconstruct has a gradient with NaN or infinite values at a finite y + delta: no search can follow it"
        )


def error_and_slope(reconstruct, y, target, scale):
    """Return what gives of δ the error ‖f(y + δ) − x‖² / s² of each sample and, if asked for, s times its gradient."""

    def objective(delta, with_slope):
        point = delta.detach().requires_grad_(with_slope)
        with torch.set_grad_enabled(with_slope or torch.is_grad_enabled()):
            error, _ = errors(reconstruct, y + point, target, scale)
            slope = gradient(error, scale, point) if with_slope else None
        if with_slope:
            check_gradient(slope)
        return error.detach(), slope

    return objective


def in_range(name, exact, dtype, size):
    """Return squares, given in float64, in ``dtype``, unless that cannot hold them.

    Too small are numbers that would lose digits there, but for those that are rounding errors next to ``size``.
    """
    values, limits = exact.to(dtype), torch.finfo(dtype)
    lost = (values.abs() < limits.tiny) & (exact.abs() > limits.eps**2 * size)
    if not holds(torch.isfinite(values) & ~lost):
        raise ValueError(f"{name} leaves the range of {dtype}: pass float64, or images of another scale")
    return values
