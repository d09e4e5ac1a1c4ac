"""Checks of NumPy arguments: each error names the argument, what came, and what to pass. Needs no PyTorch."""

import numpy as np


def spectrum(singular_values, variances):
    """Return singular values and variances (None: all 1) as float64 arrays of one shape (n,), neither negative."""
    values = real_array("singular_values", singular_values, 1)
    weights = np.ones_like(values) if variances is None else real_array("variances", variances, 1)
    if weights.shape != values.shape:
        raise ValueError(
            f"variances must have the shape {values.shape} of singular_values, got {weights.shape}"
        )
    for name, array in (("singular_values", values), ("variances", weights)):
        if ((array > 0) & (array < np.finfo(float).tiny)).any():
            raise ValueError(
                f"{name} has entries below {np.finfo(float).tiny:.1e} that are not 0: round them to 0 first"
            )
        if (array < 0).any():
            raise ValueError(f"{name} must not be negative, got a minimum of {array.min()}")
    return values, weights


def real_array(name, values, ndim):
    """Return ``values`` as a new float64 array if it is a finite, non-empty, real array of ``ndim`` dimensions."""
    try:
        array = np.asarray(values)
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # ragged lists, tensors that need gradients or hold no numbers
        raise TypeError(
            f"{name} must be an array of real numbers, got {type(values).__name__}: {error}"
        ) from error
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} must be an array of real numbers, got {type(values).__name__} of {array.dtype}"
        )
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must be a non-empty array of {ndim} dimension(s), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or infinite entries: pass finite numbers")
    return array.astype(np.float64)


def not_negative(name, value):
    """Return ``value`` as a float if it is a finite number ≥ 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    value = float(value) if not isinstance(value, int) or abs(value) < 2**1000 else np.inf
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    return float(value)
