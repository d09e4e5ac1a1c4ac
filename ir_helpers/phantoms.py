"""Random phantoms of ellipses; public as `datasets.ellipses`."""

import numpy as np
import torch

from ir_helpers.checks import check_seed, positive_int

__all__ = ["ellipses"]


def ellipses(count, image_size=64, *, seed=0):
    """Return random phantoms: a large ellipse with five to ten smaller ones that add or take away brightness.

    Sums beyond [0, 1] are cut off. Image i depends on `seed` and i only, so a longer series begins with the
    shorter one.

    Parameters
    ----------
    count : int
        Number of phantoms.
    image_size : int
        Pixels N on a side.
    seed : int
        Seed of NumPy's PCG64: the same phantoms on every machine.

    Returns
    -------
    torch.Tensor
        Shape (count, 1, N, N).

    Raises
    ------
    ValueError
        If `count` or `image_size` is not a positive int, or `seed` is negative or no int.
    """
    count, size = positive_int("count", count), positive_int("image_size", image_size)
    check_seed(seed)
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    images = np.stack([_phantom(axis, np.random.default_rng([seed, i])) for i in range(count)])
    return torch.from_numpy(images.clip(0, 1).astype(np.float32))[:, None]


def _phantom(axis, rng):
    """Draw one phantom on the grid axis x axis; the image is 2 wide. The first ellipse is the large one."""
    small = rng.integers(5, 11)
    centres = np.vstack([rng.uniform(-0.05, 0.05, (1, 2)), rng.uniform(-0.45, 0.45, (small, 2))])
    radii = np.vstack([rng.uniform(0.65, 0.9, (1, 2)), rng.uniform(0.05, 0.35, (small, 2))])
    values = np.append(rng.uniform(0.3, 0.6), rng.uniform(-0.3, 0.4, small))
    image = np.zeros((len(axis), len(axis)))
    for (row, column), (a, b), value in zip(centres, radii, values, strict=True):
        angle = rng.uniform(0, np.pi)
        down, right = axis[:, None] - row, axis[None, :] - column
        along = np.cos(angle) * right + np.sin(angle) * down
        across = np.cos(angle) * down - np.sin(angle) * right
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += value
    return image
