"""The Joseph projector in torch operations: matrix-free, with its exact adjoint on any device.

ASTRA's GPU back-projection is not the adjoint of its GPU projection (15 % apart on white noise), so matrix-free operators
use this on a GPU. It computes what ASTRA's CPU projector "linear" computes (``tests/test_tomography.py``).

References
----------
P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982), doi:10.1109/TMI.1982.4307572.
"""

import math

import numpy as np
import torch


def project(geometry, images):
    """Return the views (B, angles, detectors) of images (B, N, N), lengths in pixels."""
    padded = _both_ways(images)
    views = [
        (padded[way].gather(2, left) * weight + padded[way].gather(2, left + 1) * (length - weight)).sum(1)
        for way, left, weight, length in _rays(geometry, images)
    ]
    return torch.stack(views, dim=1)


def back_project(geometry, views):
    """Return the adjoint of ``project``: images (B, N, N) of views (B, angles, detectors)."""
    size = geometry.image_size
    sums = [views.new_zeros(len(views), size, size + 2) for _ in range(2)]
    for k, (way, left, weight, length) in enumerate(_rays(geometry, views)):
        values = views[:, k, None, :]
        sums[way].scatter_add_(2, left, values * weight)
        sums[way].scatter_add_(2, left + 1, values * (length - weight))
    return sums[0][:, :, 1:-1] + sums[1][:, :, 1:-1].mT


def _both_ways(images):
    # A margin of one zero on each side takes the interpolation at the border, and all rays that miss the image.
    return [torch.nn.functional.pad(each, (1, 1)) for each in (images, images.mT)]


def _rays(geometry, batch):
    """Yield for each view: 0 to go along rows or 1 along columns, left neighbours (B, N, D), weights (N, D), length.

    A steep ray crosses every row once, a flat one every column. There it meets the point between two pixels whose
    values it mixes; ``length`` is what it runs from one row to the next.
    """
    size, channels = geometry.image_size, geometry.num_detectors
    middle = (size - 1) / 2
    exact = {"dtype": torch.float64, "device": batch.device}  # weights are computed where they are used
    offsets = torch.arange(channels, **exact) - (channels - 1) / 2 + geometry.axis_shift
    lines = torch.arange(size, **exact) - middle
    for angle in np.asarray(geometry.angles):
        cos, sin = math.cos(angle), math.sin(angle)
        steep = abs(cos) >= abs(sin)
        if steep:  # x = (s − y sin)/cos in the row y = −line, since rows count downwards
            position = (offsets + lines[:, None] * sin) / cos + middle
        else:  # y = (s − x cos)/sin in the column x = line
            position = middle - (offsets - lines[:, None] * cos) / sin
        length = 1 / max(abs(cos), abs(sin))
        position = position.clamp(-1, size)  # in pixels; beyond the margin everything is zero
        left = position.floor().clamp(-1, size - 1)
        weight = (length * (1 - (position - left))).to(batch)
        index = (left.long() + 1).expand(len(batch), -1, -1)
        yield int(not steep), index, weight, length
