"""The smooth inverse against its formula with dense matrices, and the problem that it solves."""

import functools
import gc

import pytest
import torch
from scipy import fft
from toys import normal

from ir_helpers import datasets, networks, operators, smooth

SHAPES = [(1, 8, 8), (3, 6, 10)]


def problem(shape, m=20):
    A = operators.gaussian(m, shape, seed=0).to(torch.float64)
    return A, normal(5, m)


def covariance(shape):
    """C as a dense matrix, from SciPy's cosine transform of every unit image."""
    channels, height, width = shape
    k, l = torch.arange(height)[:, None], torch.arange(width)
    units = torch.eye(channels * height * width, dtype=torch.float64).reshape(-1, *shape)
    spectrum = (
        fft.dctn(units.numpy(), axes=(2, 3), norm="ortho") * ((1 + k**2 + l**2).double() ** -1.5).numpy()
    )
    images = torch.from_numpy(fft.idctn(spectrum, axes=(2, 3), norm="ortho"))
    mean = images.mean(1, keepdim=True).expand_as(images)
    return (mean + 0.1 * (images - mean)).flatten(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_formula_with_dense_matrices(shape):
    A, y = problem(shape)
    C, M = covariance(shape), A.matrix()
    assert torch.allclose(C, C.T) and torch.linalg.eigvalsh(C).min() > 0
    K = M @ C @ M.T
    K = K + 1e-3 * K.trace() / len(K) * torch.eye(len(K), dtype=K.dtype)
    expected = torch.linalg.solve(K, y.T).T @ M @ C
    assert torch.allclose(smooth.smooth_inverse(A, y).flatten(1), expected, rtol=1e-9, atol=1e-11)


def test_it_minimises_the_misfit_and_the_roughness():
    A, y = problem(SHAPES[1])
    C, M = covariance(SHAPES[1]), A.matrix()
    mu = 1e-3 * (M @ C @ M.T).diagonal().mean()
    x = smooth.smooth_inverse(A, y).flatten(1).requires_grad_()
    loss = (x @ M.T - y).square().sum() + mu * (x * torch.linalg.solve(C, x.T).T).sum()
    (slope,) = torch.autograd.grad(loss, x)
    assert slope.abs().max() < 1e-8 * (2 * y @ M).abs().max()


def test_it_is_linear_and_its_gradient_is_the_adjoint():
    A, y = problem(SHAPES[0])
    u, v = y[:2].clone().requires_grad_(), normal(2, 1, 8, 8, seed=3)
    x = smooth.smooth_inverse(A, u)
    assert torch.allclose(smooth.smooth_inverse(A, 3 * y[:1] - y[1:2]), 3 * x[:1] - x[1:])
    (back,) = torch.autograd.grad((x * v).sum(), u)
    assert (x * v).sum().item() == pytest.approx((back * u).sum().item(), rel=1e-10)


@functools.cache
def portraits():
    return datasets.faces("test", count=20).expand(-1, 3, -1, -1)


def test_it_sees_faces_where_the_pseudo_inverse_does_not():
    A, x = operators.gaussian(1500, (3, 64, 64), seed=0), portraits()
    M = A.matrix()
    y = A(x)
    by_formula = (smooth.smooth_inverse(A, y) - x).flatten(1).norm(dim=1)
    without = torch.linalg.solve(M @ M.T, y.T).T @ M - x.flatten(1)
    assert (by_formula < 0.15 * without.norm(dim=1)).all()
    assert (by_formula < 0.12 * x.flatten(1).norm(dim=1)).all()


def test_single_precision_is_enough_for_what_follows():
    A, x = operators.gaussian(300, (3, 32, 32), seed=0), portraits()[..., ::2, ::2].contiguous()
    single = smooth.smooth_inverse(A, A(x))
    double = smooth.smooth_inverse(A.to(torch.float64), A.to(torch.float64)(x.double()))
    assert single.dtype == torch.float32
    assert (single - double).abs().max() < 2e-6


def test_single_precision_knows_small_changes_of_the_data():
    A, x = operators.gaussian(300, (3, 32, 32), seed=0), portraits()[..., ::2, ::2].contiguous()
    B, y = A.to(torch.float64), A(x)
    moved = y + 1e-3 * normal(len(y), 300).float()
    single = smooth.smooth_inverse(A, moved) - smooth.smooth_inverse(A, y)
    double = smooth.smooth_inverse(B, moved.double()) - smooth.smooth_inverse(B, y.double())
    assert (single - double).norm() < 5e-3 * double.norm()


def test_half_precision_around_it_changes_nothing():
    A, y = problem(SHAPES[0])
    A, y = A.to(torch.float32), y.float()
    with torch.autocast("cpu", torch.bfloat16):
        x = smooth.smooth_inverse(A, y)
    assert torch.equal(x, smooth.smooth_inverse(A, y))


def test_it_serves_a_scanner_too():
    A = operators.parallel_beam(32, 20)
    x = datasets.ellipses(3, 32)
    error = (smooth.smooth_inverse(A, A(x)) - x).flatten(1).norm(dim=1)
    assert (error < 0.25 * x.flatten(1).norm(dim=1)).all()


def test_what_is_kept_goes_with_the_operator():
    gc.collect()
    before = len(smooth._known)
    A, y = problem(SHAPES[0])
    smooth.smooth_inverse(A, y), smooth.smooth_inverse(A, y)
    assert len(smooth._known) == before + 1
    del A
    gc.collect()
    assert len(smooth._known) == before


def test_a_first_call_without_gradients_leaves_them_to_later_ones():
    A, y = problem(SHAPES[0])
    with torch.inference_mode():
        smooth.smooth_inverse(A, y)
    y = y.clone().requires_grad_()
    smooth.smooth_inverse(A, y).sum().backward()
    assert y.grad.abs().min() > 0


def test_bad_input_is_refused(monkeypatch):
    A, y = problem(SHAPES[0])
    with pytest.raises(ValueError, match=r"y must have shape \(B, 20\)"):
        smooth.smooth_inverse(A, y[:, :7])
    monkeypatch.setattr(smooth, "_LARGEST", 1279)
    with pytest.raises(
        ValueError, match="matrices of at most 1279 numbers; got 20 measurements of 64 pixels"
    ):
        smooth.smooth_inverse(problem(SHAPES[0])[0], y)
    with pytest.raises(ValueError, match="got 40 measurements of 4 pixels"):
        smooth.smooth_inverse(*problem((1, 2, 2), 40))


def test_a_network_corrects_it():
    A, y = problem((1, 8, 8))
    torch.manual_seed(0)
    f = networks.Reconstructor(A, networks.UNet(width=4, levels=2).double(), start="smooth")
    start = smooth.smooth_inverse(A, y)
    assert torch.equal(f(y), start + f.network(start))
    assert not torch.equal(f(y), start)
