"""The noise of real measurements; public as `datasets.with_noise` and `datasets.low_dose`."""

import math

import numpy as np
import torch

from ir_helpers.checks import check_batch, check_seed, finite, positive
from ir_helpers.per_sample import norms

__all__ = ["HU_MAX", "HU_MIN", "WATER_PER_MM", "low_dose", "with_noise"]

# Attenuation of water at 70 keV, about the mean energy of a 120 kV scan, in 1/mm. Hubbell & Seltzer, NIST
# Standard Reference Database 126 (doi:10.18434/T4D01F), between their rows for 60 and 80 keV.
WATER_PER_MM = 0.0192
# x = 0 and x = 1 in Hounsfield units.
HU_MIN, HU_MAX = -1024.0, 1024.0
_MOST_PHOTONS = 1e15  # of one ray: beyond, float64 no longer counts singly


def with_noise(y, relative_level, *, seed=0):
    """Return y + n with white Gaussian noise n, ``E ||n||^2 = (relative_level ||y||)^2`` for each sample.

    Parameters
    ----------
    y : torch.Tensor
        Measurements, shape ``(B, *data_shape)``, float.
    relative_level : float
        Size of the noise relative to ||y||, at least 0.
    seed : int
        Seed of NumPy's PCG64: the same noise on every machine and device.

    Returns
    -------
    torch.Tensor
        Shape, dtype and device of `y`. Gradients pass to `y` as if n were constant.

    Raises
    ------
    TypeError
        If `y` is not a float tensor.
    ValueError
        If `y` has no batch axis or is not finite, or the level is negative or not finite.
    """
    check_batch("y", y)
    level = finite("relative_level", relative_level)
    if level < 0:
        raise ValueError(f"relative_level must be at least 0, got {relative_level!r}")
    noise = np.random.default_rng(check_seed(seed)).standard_normal(tuple(y.shape))
    noise = torch.from_numpy(noise).to(dtype=y.dtype, device=y.device)
    return y + level * norms(y.detach()) / math.sqrt(y[0].numel()) * noise


def low_dose(A, x, photons, generator, *, field_of_view_mm=350.0):
    """Measure x with `photons` X-ray photons per ray: Beer-Lambert attenuation and Poisson counts.

    The image becomes an attenuation, mu = mu_water (1 + h / 1000) with h the Hounsfield units of x, so
    mu = mu_water (a x + b) with a = 2.048, b = -0.024. With the field of view L in mm its line integrals are

        p = mu_water L (a A x + b A 1),        N ~ Poisson(photons exp(-p)),        p' = -log(N / photons),

    where 1 is the image of ones: A 1 is the length of each ray inside the image. The same affine map taken
    backwards gives y = (p' / (mu_water L) - b A 1) / a, which estimates A x in the units of A x.

    A count of zero has no logarithm. It is replaced by half a photon, as is usual; such rays are biased.
    Vacuum is -1000 HU, but x = 0 means -1024 HU. So mu is slightly negative there, and a ray through such a
    margin counts a little more than `photons`. We keep this: the map stays affine and has an exact inverse.

    Parameters
    ----------
    A : callable
        Linear map from images to line integrals, lengths in units of the field of view
        (`operators.parallel_beam`).
    x : torch.Tensor
        Images as `ct_slices` gives them, shape (B, 1, N, N), float.
    photons : float
        Expected count of a ray that meets nothing. Fewer photons, lower dose.
    generator : torch.Generator
        Source of the counts, on the device of `x`.
    field_of_view_mm : float
        Side L of the image in mm.

    Returns
    -------
    torch.Tensor
        Noisy measurement, shape of A(x). Where counts are large its standard deviation is about
        exp(p / 2) / (sqrt(photons) a mu_water L). No gradient passes.

    Raises
    ------
    TypeError
        If `x` is not a float tensor, or `generator` is not a torch.Generator.
    ValueError
        If `x` is not finite or not a batch, `photons` or `field_of_view_mm` is not positive, or `generator`
        is on another device.

    References
    ----------
    Buzug, Computed Tomography, 2008, doi:10.1007/978-3-540-39408-2. Attenuation of water:
    doi:10.18434/T4D01F.
    """
    if not callable(A):
        raise TypeError(
            f"A must be a linear map such as operators.parallel_beam(...), got {type(A).__name__}"
        )
    check_batch("x", x)
    positive("photons", photons)
    positive("field_of_view_mm", field_of_view_mm)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {type(generator).__name__}")
    if generator.device.type != x.device.type:
        raise ValueError(f"generator is on {generator.device}, x on {x.device}: make it on the device of x")
    slope, offset = (HU_MAX - HU_MIN) / 1000, 1 + HU_MIN / 1000
    length = WATER_PER_MM * field_of_view_mm
    with torch.no_grad():
        # float64: single precision counts photons exactly only up to 2^24.
        clean = A(x).double()
        ones = A(torch.ones_like(x[:1])).double()
        rate = photons * torch.exp(-length * (slope * clean + offset * ones))
        if rate.max() > _MOST_PHOTONS:
            raise ValueError(
                f"photons and x give {rate.max():.1e} counts for a ray, more than the {_MOST_PHOTONS:.0e} that can be drawn: "
                "pass fewer photons, and x in [0, 1]"
            )
        counts = torch.poisson(rate, generator=generator).clamp(min=0.5)
        noisy = (-torch.log(counts / photons) / length - offset * ones) / slope
        if not torch.isfinite(noisy).all():
            raise ValueError(
                f"photons {photons!r} and field_of_view_mm {field_of_view_mm!r} give data beyond any number"
            )
    return noisy.to(x.dtype)
