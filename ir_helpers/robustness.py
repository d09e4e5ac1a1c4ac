"""Numbers over images and attacks: squared error, PSNR, SSIM, and the worst-case error ρ(ε) as a table."""

import math

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity
from tqdm.auto import tqdm

from ir_helpers import attacks
from ir_helpers.checks import (
    check_attack_inputs,
    check_batch,
    check_callable,
    check_images,
    check_seed,
    is_real,
    positive,
    positive_int,
)
from ir_helpers.linear_operator import check_operator
from ir_helpers.per_sample import in_range, norms, powers_of_two

_SSIM_WINDOW = 11  # pixels on a side


def squared_error(estimate, x):
    """Return ‖x̂ − x‖₂² for each image, shape (B,)."""
    check_images(estimate, x)
    squares, unit = _squares(estimate, x)
    area = powers_of_two(torch.maximum(estimate.abs(), x.abs())).flatten().double() ** 2
    return in_range("the squared error of estimate and x", squares.sum(1) * unit**2, x.dtype, area)


def psnr(estimate, x, *, data_range=1.0):
    """Return the peak signal-to-noise ratio 10 log₁₀(R² / mean squared error) in dB for each image, shape (B,).

    R is ``data_range``. Equal images give infinity.
    """
    check_images(estimate, x)
    positive("data_range", data_range)
    squares, unit = _squares(estimate, x)
    return (20 * (math.log10(data_range) - torch.log10(unit)) - 10 * torch.log10(squares.mean(1))).to(x.dtype)


def _squares(estimate, x):
    """Return (x̂ − x)² / s², (B, n), and s, (B,), a power of two: in these units squares stay in range. In float64."""
    difference = estimate - x
    unit = powers_of_two(difference)
    return (difference / unit).square().flatten(1), unit.flatten().double()


def ssim(estimate, x, *, data_range=1.0):
    """Return the structural similarity of each image, shape (B,), with Gaussian weights (σ = 1.5) as in its definition.

    Computed by scikit-image on the CPU; colour channels are averaged.

    References
    ----------
    Zhou Wang et al., IEEE Trans. Image Process. 13 (2004), doi:10.1109/TIP.2003.819861.
    """
    check_images(estimate, x)
    positive("data_range", data_range)
    if x.ndim != 4 or min(x.shape[-2:]) < _SSIM_WINDOW:
        raise ValueError(
            f"x must have shape (B, C, H, W) with at least 11 × 11 pixels, the window, got {tuple(x.shape)}"
        )
    precise = torch.promote_types(x.dtype, torch.float32)
    exponent = max(math.frexp(data_range)[1], -1000)  # a power of two as the unit: squares stay in range
    pairs = zip(
        *((t.detach().cpu().to(precise) * 2.0**-exponent).numpy() for t in (estimate, x)), strict=True
    )
    with np.errstate(all="ignore"):  # what is not finite is refused below
        values = [
            structural_similarity(
                a,
                b,
                data_range=data_range * 2.0**-exponent,
                channel_axis=0,
                gaussian_weights=True,
                use_sample_covariance=False,
            )
            for a, b in pairs
        ]
    if not np.isfinite(values).all():
        raise ValueError(
            f"data_range is {data_range!r}, far below the values of estimate and x: pass their range"
        )
    return torch.tensor(np.array(values), dtype=x.dtype)


def worst_region(estimate, x, *, size=32):
    """Return the root mean squared error of the worst square of ``size`` × ``size`` pixels of each image, shape (B,).

    A mean over the image hides an error that is large in one place, where a reader may look. All positions of the square
    are tried; channels are averaged.
    """
    check_images(estimate, x)
    positive_int("size", size)
    if x.ndim != 4 or size > min(x.shape[-2:]):
        raise ValueError(
            f"size must be at most that of images (B, C, H, W), got {size} for images of shape {tuple(x.shape)}"
        )
    squares, unit = _squares(estimate, x)
    means = torch.nn.functional.avg_pool2d(squares.reshape(x.shape).mean(1, keepdim=True), size, stride=1)
    return (means.flatten(1).amax(1).sqrt() * unit).to(x.dtype)


def curve(
    reconstruct,
    A,
    x,
    radii,
    *,
    y=None,
    relative_to=None,
    steps=100,
    restarts=1,
    seed=0,
    rule="long",
    batch_size=256,
):
    """Measure the worst-case error ρ(ε) = mean over images of max_{‖δ‖₂ ≤ ε} ‖f(y + δ) − x‖₂², one row for each ε.

    The maximum is searched by ``attacks.worst_case``, so every ρ is a lower bound. Radii are taken in ascending order,
    and one more search starts from the δ found for the radius before, so the table never decreases for want of luck.

    Parameters
    ----------
    reconstruct : callable
        f, from data to images.
    A : LinearOperator
    x : torch.Tensor
        Images, (B, \\*A.image_shape).
    radii : sequence of float
        ε ≥ 0, in the units of ‖y‖₂, or of ``relative_to``.
    y : torch.Tensor, optional
        The data; None takes the exact data A x.
    relative_to : torch.Tensor, optional
        Shape (B,): each sample's radius is ε times its entry, for instance ``A(x).flatten(1).norm(dim=1)`` for radii
        relative to the data. None: radii are absolute.
    steps, restarts, seed, rule
        Of the attack, for each radius.
    batch_size : int
        Images attacked at once.

    Returns
    -------
    pandas.DataFrame
        Columns ``radius`` (mean ‖δ‖₂ allowed), ``relative_radius`` (mean of it over ‖y‖₂, where that is not 0), ``rho``, ``rho_sem`` (its
        standard error over images), ``psnr`` and ``ssim`` (means under attack; no ``ssim`` below 11 × 11 pixels), ``images``,
        ``steps``, ``restarts``.
    """
    check_operator(A)
    check_callable("reconstruct", reconstruct)
    check_batch("x", x, A.image_shape)
    y = A(x) if y is None else y
    radii, scale = sorted(_checked_radii(radii)), _checked_scale(relative_to, x)
    positive_int("steps", steps), positive_int("restarts", restarts)
    batch_size = positive_int("batch_size", batch_size)
    check_seed(seed)
    check_attack_inputs(y, x, 0.0)
    search = {"steps": steps, "restarts": restarts + 1, "seed": seed, "rule": rule}
    blocks = [
        _curve_of_batch(reconstruct, *part, radii, search)
        for part in zip(*(t.split(batch_size) for t in (y, x, scale)), strict=True)
    ]
    per_image = pd.concat(blocks)
    table = per_image.groupby("step").agg(
        radius=("radius", "mean"),
        relative_radius=("relative_radius", "mean"),
        rho=("error", "mean"),
        rho_sem=("error", "sem"),
        psnr=("psnr", "mean"),
        ssim=("ssim", "mean"),
        images=("error", "size"),
    )
    return table.reset_index(drop=True).assign(steps=steps, restarts=restarts)


def _curve_of_batch(reconstruct, y, x, scale, radii, search):
    """Return one row for each image and radius."""
    rows, delta, size = [], torch.zeros_like(y), norms(y).flatten()
    norms_of_data = torch.where(size > 0, size, torch.nan)
    # Searches of a second or two need no bar; TQDM_DISABLE=1 hides it from pages and tests.
    for step, radius in enumerate(tqdm(radii, desc="radii", leave=False, delay=2)):
        allowed = radius * scale
        delta = attacks.worst_case(reconstruct, y, x, allowed, start=delta, **search)
        with torch.no_grad():
            estimate = reconstruct(y + delta)
        columns = {
            "radius": allowed,
            "relative_radius": allowed / norms_of_data,
            "error": squared_error(estimate, x),
            "psnr": psnr(estimate, x),
            "ssim": ssim(estimate, x)
            if x.ndim == 4 and min(x.shape[-2:]) >= _SSIM_WINDOW
            else torch.full_like(size, torch.nan),
        }
        rows.append(
            pd.DataFrame({k: v.detach().cpu().double().numpy() for k, v in columns.items()}).assign(step=step)
        )
    return pd.concat(rows)


def _checked_radii(radii):
    try:
        values = [r.item() if isinstance(r, torch.Tensor) else r for r in radii]
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ):  # no sequence, or tensors of more than one number, or of none
        values = []
    if not values or not all(is_real(v) and 0 <= v < math.inf for v in values):
        raise ValueError(f"radii must be a sequence of finite numbers, none negative, got {radii!r}")
    return [float(v) for v in values]


def _checked_scale(relative_to, x):
    if relative_to is None:
        return torch.ones(len(x), dtype=x.dtype, device=x.device)
    if not isinstance(relative_to, torch.Tensor) or tuple(relative_to.shape) != (len(x),):
        raise ValueError(f"relative_to must be a tensor of shape ({len(x)},), got {relative_to!r}")
    if relative_to.dtype != x.dtype or relative_to.device != x.device:
        raise TypeError(
            f"relative_to is {relative_to.dtype} on {relative_to.device}, x {x.dtype} on {x.device}: "
            "pass relative_to.to(x)"
        )
    if not (torch.isfinite(relative_to) & (relative_to >= 0)).all():
        raise ValueError(f"relative_to must be finite and not negative, got {relative_to!r}")
    return relative_to
