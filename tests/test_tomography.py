"""The parallel-beam transform against formulas: a disc, a blob off the centre, total mass, turned and shifted scans."""

import math

import numpy as np
import pytest
import torch

from ir_helpers import joseph, operators
from ir_helpers.classical import fbp

BACKENDS = ["matrix", "astra"]


def pixel_centres(size):
    """Coordinates (x to the right, y upwards) of pixel centres on a square of side 1 around the origin."""
    line = (np.arange(size) + 0.5) / size - 0.5
    return np.meshgrid(line, -line)


def detector_centres(A):
    count = A.geometry.num_detectors
    return (np.arange(count) + 0.5 - count / 2) / A.geometry.image_size


def disc(size, radius, value, finer=8):
    """A centred disc; pixels at its rim hold the covered share of their area."""
    x, y = pixel_centres(size * finer)
    inside = (x**2 + y**2 < radius**2) * value
    pixels = inside.reshape(size, finer, size, finer).mean((1, 3))
    return torch.from_numpy(pixels.astype(np.float32))[None, None]


def blob(size, centre, width):
    x, y = pixel_centres(size)
    values = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2))
    return torch.from_numpy(values.astype(np.float32))[None, None]


def blob_integrals(A, centre, width, shift=0.0, offset=0.0):
    """Line integrals of ``blob``: at angle t the ray at s has distance s − (x cos t + y sin t) from its centre.

    A positive shift carries the detector towards larger s, so each bin sees the ray that many bins further on.
    """
    angles = np.arange(A.geometry.num_angles) * np.pi / A.geometry.num_angles + offset
    s = detector_centres(A) + shift / A.geometry.image_size
    distance = s - (centre[0] * np.cos(angles) + centre[1] * np.sin(angles))[:, None]
    return math.sqrt(2 * math.pi) * width * np.exp(-(distance**2) / (2 * width**2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_disc(backend):
    A = operators.parallel_beam(128, 12, backend=backend)
    assert A.data_shape == (1, 12, math.ceil(math.sqrt(2) * 128))
    radius, value = 0.35, 0.8
    y = A(disc(128, radius, value))[0, 0].double().numpy()
    expected = 2 * value * np.sqrt(np.maximum(radius**2 - detector_centres(A) ** 2, 0))
    assert expected.max() == pytest.approx(2 * value * radius, rel=1e-3)
    # The slope is infinite at the rim, where a pixel is wide: on average one part in two hundred, anywhere 8 %.
    assert np.abs(y - expected).mean() < 0.005 * expected.max()
    assert np.abs(y - expected).max() < 0.08 * expected.max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("offset", "shift"), [(0.0, 0.0), (0.4, 0.0), (0.0, 3.0), (-0.7, 2.5)])
def test_blob_off_the_centre(backend, offset, shift):
    A = operators.parallel_beam(96, 15, backend=backend, angle_offset=offset, axis_shift=shift)
    centre, width = (0.21, -0.09), 0.06
    y = A(blob(96, centre, width))[0, 0].double().numpy()
    expected = blob_integrals(A, centre, width, shift, offset)
    # A smooth function of width w on pixels of size h is integrated with an error of about (h/w)²/10 = 0.3 %.
    assert np.abs(y - expected).max() < 0.005 * expected.max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_view_holds_the_mass_of_the_image(backend):
    A = operators.parallel_beam(64, 20, backend=backend)
    x = disc(64, 0.3, 1.0) + 0.5 * blob(64, (0.1, 0.2), 0.05)
    mass = A(x)[0, 0].double().sum(1) / 64  # bins are as wide as pixels, 1/64
    # Joseph's interpolation spreads each pixel with weights that sum to one up to some thousandths, by the angle.
    assert torch.allclose(mass, x.double().mean().expand(20), rtol=5e-3)


def test_backends_agree():
    for options in ({}, {"angle_offset": 0.3, "axis_shift": -1.5}):
        stored, free = (operators.parallel_beam(48, 31, backend=b, **options) for b in BACKENDS)
        generator = torch.Generator().manual_seed(0)
        x, y = (
            torch.rand(3, *shape, generator=generator) for shape in (stored.image_shape, stored.data_shape)
        )
        # Both hold the same weights; float32 sums of about 50 terms in another order.
        assert torch.allclose(stored(x), free(x), rtol=1e-5, atol=1e-6)
        assert torch.allclose(stored.T(y), free.T(y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "angles", "offset", "shift"), [(16, 9, 0, 0), (25, 12, 0.1, 0), (24, 10, 0.3, -2.25)]
)
def test_torch_projector_is_astras_and_its_adjoint_exact(size, angles, offset, shift):
    A = operators.parallel_beam(size, angles, angle_offset=offset, axis_shift=shift)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *A.image_shape, generator=generator)
    y = torch.randn(3, *A.data_shape, generator=generator)
    views = joseph.project(A.geometry, x[:, 0]) / size
    image = joseph.back_project(A.geometry, y[:, 0]) / size
    # ASTRA takes its geometry in float32; 1e-5 was measured.
    assert (views - A(x)[:, 0]).norm() < 1e-4 * A(x).norm()
    assert (image - A.T(y)[:, 0]).norm() < 1e-4 * A.T(y).norm()
    gap = (views * y[:, 0]).sum() - (image * x[:, 0]).sum()
    assert abs(gap) < 1e-6 * views.norm() * y.norm()


def test_a_quarter_turn_of_the_scan_is_a_quarter_turn_of_the_image():
    x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    plain = operators.parallel_beam(40, 12)
    turned = operators.parallel_beam(40, 12, angle_offset=math.pi / 2)
    # The scan turned by +90° sees what the plain scan sees of the image turned by −90°; the weights are the same
    # up to the rounding of the angles.
    expected = plain(torch.from_numpy(np.rot90(x.numpy(), k=-1, axes=(2, 3)).copy()))
    assert torch.allclose(turned(x), expected, atol=1e-5)
    assert not torch.allclose(turned(x), plain(torch.rot90(x, 1, (2, 3))), atol=1e-2)


def test_shift_of_whole_bins_moves_the_data():
    x = blob(40, (0.05, 0.1), 0.08)  # far from the edge: nothing leaves the detector
    y = operators.parallel_beam(40, 12)(x)
    moved = operators.parallel_beam(40, 12, axis_shift=4)(x)
    assert torch.allclose(moved[..., :-4], y[..., 4:], atol=1e-5)  # rounding of the coordinates
    assert not torch.allclose(moved, y, atol=1e-2)


def test_no_ray_of_the_square_is_missed():
    # One pixel in a corner is seen, with its whole mass 1/N², at every angle.
    for size in (16, 33):
        A = operators.parallel_beam(size, 60)
        corner = torch.zeros(1, 1, size, size)
        corner[..., 0, 0] = 1
        assert (A(corner)[0, 0].sum(1) > 0.6 / size).all()  # a half pixel may hang over the end of the row


def test_auto_takes_the_matrix_where_it_fits():
    assert "sparse" in repr(operators.parallel_beam(16, 10))
    assert "matrix-free" in repr(operators.parallel_beam(512, 1000))  # 16 bytes · 4.7e8 entries: 7.5 GB


@pytest.mark.parametrize(("size", "angles"), [(64, 30), (128, 20)])
def test_expected_nonzeros(size, angles):
    A = operators.parallel_beam(size, angles, backend="matrix")
    # The share of diagonal directions depends on the angles: within 10 %, enough to choose a back end.
    assert A.matrix().values().numel() == pytest.approx(A.geometry.expected_nonzeros, rel=0.1)


def test_shifted_scans_are_reconstructed_with_their_own_operator():
    # The geometry travels with the operator: fbp knows of the shift through A.T.
    x = blob(64, (0.1, -0.1), 0.1)
    A = operators.parallel_beam(64, 60, angle_offset=0.2, axis_shift=3)
    wrong = operators.parallel_beam(64, 60, angle_offset=0.2)
    right, bad = ((fbp(B, A(x)) - x).norm() / x.norm() for B in (A, wrong))
    assert right < 0.03  # discretisation; measured 0.01
    assert bad > 5 * right


def test_matrix_free_operator_says_what_it_cannot():
    A = operators.parallel_beam(16, 5, backend="astra")
    with pytest.raises(ValueError, match='backend="matrix"'):
        A.matrix()
    with pytest.raises(TypeError, match="float32 only, got torch.float64"):
        A.to(torch.float64)
