"""Checks of arguments, shared by all modules: each error names the argument, what came, and what to pass."""

import math
from pathlib import Path

import numpy as np
import torch


class NotFinite(ValueError):
    """Numbers are NaN or infinite where they must not be."""


def holds(condition):
    """Return whether every entry of a boolean tensor is true.

    While a CUDA graph is recorded nothing can be read back from the GPU: then the answer is yes. The same code has run
    unrecorded on batches before.
    """
    recorded = condition.is_cuda and torch.cuda.is_current_stream_capturing()
    return recorded or bool(condition.all())


def check_batch(name, values, shape=None):
    """Raise unless ``values`` is a finite floating-point tensor (B, \\*shape), B ≥ 1; None allows any shape."""
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
        raise TypeError(
            f"{name} must be a floating-point torch.Tensor, got {kind}: pass torch.as_tensor(..., dtype=torch.float32)"
        )
    if values.is_meta:
        raise TypeError(
            f"{name} is on the device meta, which holds no numbers: pass a tensor of the cpu or a GPU"
        )
    wanted = tuple(values.shape[1:]) if shape is None else tuple(shape)
    if values.ndim < 2 or tuple(values.shape[1:]) != wanted or values.numel() == 0:
        sizes = ", ".join(["B", *map(str, wanted)]) if shape is not None else "B, ..."
        raise ValueError(f"{name} must have shape ({sizes}) with B ≥ 1, got {tuple(values.shape)}")
    # A sum is finite if all terms are, short of overflow: one cheap pass, and the exact test only where it fails.
    detached = values.detach()
    if not holds(torch.isfinite(detached.sum())) and not torch.isfinite(detached).all():
        raise NotFinite(f"{name} has NaN or infinite values: pass finite numbers")


def check_error(error):
    """Raise unless the errors of an attack's images are finite."""
    if not holds(torch.isfinite(error.detach())):
        raise NotFinite(
            "reconstruct gave NaN or infinite values for a finite y + delta, or an error whose square is infinite: "
            "nothing can be maximised"
        )


def check_like(name, values, y):
    """Raise unless ``values`` is a finite tensor of the shape, dtype and device of y."""
    check_batch(name, values, tuple(y.shape[1:]))
    if len(values) != len(y):
        raise ValueError(f"{name} must have the batch size of y, {len(y)}, got {len(values)}")
    if values.dtype != y.dtype or values.device != y.device:
        raise TypeError(
            f"{name} is {values.dtype} on {values.device}, y {y.dtype} on {y.device}: pass {name}.to(y)"
        )


def check_path(name, value):
    """Raise unless ``value`` is the path of a file."""
    if not isinstance(value, (str, Path)):
        raise TypeError(f"{name} must be a str or a pathlib.Path, got {type(value).__name__}")


def check_seed(value):
    """Return ``value`` as an int if it is a whole number ≥ 0, as NumPy's generators take."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"seed must be a whole number, not negative, got {value!r}")
    if value >= 2**62:
        raise ValueError(f"seed must be below 2**62, got {value!r}")
    return int(value)


def positive_int(name, value):
    """Return ``value`` as an int if it is a positive whole number, else raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    if value >= 2**31:
        raise ValueError(
            f"{name} must be a positive whole number below 2**31, got {float(min(value, 10**300)):.1e}"
        )
    return int(value)


def finite(name, value):
    """Return ``value`` as a float if it is a finite number."""
    if not is_real(value) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def is_real(value):
    """Return whether ``value`` is one real number of Python or NumPy that a float holds; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return not isinstance(value, int) or abs(value) < 2**1000


def check_callable(name, value):
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function from data to images, got {type(value).__name__}")


def shape_of(name, shape):
    """Return ``shape`` as a tuple of positive whole numbers."""
    if not isinstance(shape, (tuple, list, torch.Size)) or len(shape) == 0:
        raise ValueError(f"{name} must be a tuple of sizes such as (1, 28, 28), got {shape!r}")
    return tuple(positive_int(name, size) for size in shape)


def positive(name, value):
    """Return ``value`` as a float if it is a positive finite number."""
    if not (is_real(value) and 0 < value < math.inf):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def not_negative(name, value):
    """Return ``value`` as a float if it is a finite number ≥ 0."""
    if not (is_real(value) and 0 <= value < math.inf):
        raise ValueError(f"{name} must be a finite number, not negative, got {value!r}")
    return float(value)


def check_images(estimate, x):
    """Raise unless x̂ and x are finite batches of one shape."""
    check_batch("x", x)
    check_batch("estimate", estimate, tuple(x.shape[1:]))
    if len(estimate) != len(x):
        raise ValueError(f"estimate and x must have the same batch size, got {len(estimate)} and {len(x)}")
    if estimate.dtype != x.dtype or estimate.device != x.device:
        raise TypeError(
            f"estimate is {estimate.dtype} on {estimate.device}, x {x.dtype} on {x.device}: pass estimate.to(x)"
        )


def check_attack_inputs(y, target, radius):
    """Check the data, the target and the radius of an attack against each other; return the radius, shape (B,)."""
    check_batch("y", y)
    check_batch("target", target)
    if len(y) != len(target):
        raise ValueError(f"y and target must have the same batch size, got {len(y)} and {len(target)}")
    if y.dtype != target.dtype or y.device != target.device:
        raise TypeError(
            f"y is {y.dtype} on {y.device}, target {target.dtype} on {target.device}: pass target.to(y)"
        )
    return radius_per_sample(radius, y)


def radius_per_sample(radius, y, name="radius"):
    """Return the radius, or what ``name`` says, as a tensor of shape (B,)."""
    tensor = isinstance(radius, torch.Tensor) and not (radius.is_complex() or radius.is_meta)
    if not is_real(radius) and (not tensor or radius.dtype == torch.bool):
        kind = (
            f"{radius.dtype} on {radius.device}"
            if isinstance(radius, torch.Tensor)
            else type(radius).__name__
        )
        raise TypeError(f"{name} must be a real number or a real tensor of shape ({len(y)},), got {kind}")
    if isinstance(radius, torch.Tensor):
        values = radius.to(y.device, y.dtype)
    else:
        values = torch.full((), float(radius), dtype=y.dtype, device=y.device)  # no copy from the CPU
    if values.ndim and tuple(values.shape) != (len(y),):
        raise ValueError(f"{name} must be one number or have shape ({len(y)},), got {tuple(values.shape)}")
    if not holds(torch.isfinite(values) & (values >= 0)):
        raise ValueError(f"{name} must be finite and not negative, got {radius!r}")
    return values.detach().expand(len(y))
