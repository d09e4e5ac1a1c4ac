"""Total variation against another solver, an answer by hand, and the conditions of a minimum."""

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle
from toys import small_scan

from ir_helpers import classical, operators


def total_variation(x):
    """TV of the definition, in NumPy and without the helpers under test."""
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[..., :-1, :], right[..., :, :-1] = np.diff(x, axis=-2), np.diff(x, axis=-1)
    return np.sqrt(down**2 + right**2).sum((-3, -2, -1))


def objective(A, x, y, weight):
    misfit = 0.5 * (A(x) - y).square().flatten(1).sum(1).numpy()
    return misfit + weight * total_variation(x.numpy())


def identity(rows, columns):
    return operators.from_matrix(np.eye(rows * columns), (1, rows, columns))


@pytest.mark.parametrize("weight", [0.02, 0.05])
def test_total_variation_denoises_as_scikit_image(weight):
    rng = np.random.default_rng(0)
    noisy = np.full((16, 16), 0.3)
    noisy[4:10, 5:13] = 0.7
    noisy += 0.05 * rng.standard_normal(noisy.shape)  # all values stay positive: x ≥ 0 does not bind
    expected = denoise_tv_chambolle(noisy, weight=weight, eps=1e-12, max_num_iter=20000)
    y = torch.from_numpy(noisy.reshape(1, -1))
    found = classical.total_variation(identity(16, 16), y, weight, iterations=3000)[0, 0].numpy()
    # Two iterative solvers, each converged to some 1e-3 of the grey range; their start differs by 0.15.
    assert np.abs(found - expected).max() < 3e-3


def test_total_variation_of_a_step_is_a_lower_step():
    # By hand: each half of width w moves towards the other by weight/w, where its pull w·shift equals the weight.
    x = torch.full((1, 1, 4, 12), 0.2, dtype=torch.float64)
    x[..., 4:] = 0.9
    found = classical.total_variation(identity(4, 12), x.reshape(1, -1), 0.08, iterations=4000)
    assert torch.allclose(found[..., :4], torch.tensor(0.2 + 0.08 / 4).double(), atol=1e-4)  # of convergence
    assert torch.allclose(found[..., 4:], torch.tensor(0.9 - 0.08 / 8).double(), atol=1e-4)


def test_total_variation_is_not_negative():
    y = torch.linspace(-1, 1, 36, dtype=torch.float64)[None]
    found = classical.total_variation(identity(6, 6), y, 1e-6, iterations=2000)
    # With hardly any smoothing it is the projection onto x ≥ 0.
    assert torch.allclose(found.flatten(1), y.clamp_min(0), atol=1e-3)
    assert (found >= 0).all()


@pytest.mark.parametrize("weight", [1e-3, 1e-2])
def test_total_variation_cannot_be_improved(weight):
    A, _, y = small_scan()
    x = classical.total_variation(A, y, weight, iterations=2000)
    best, rng = objective(A, x, y, weight), torch.Generator().manual_seed(0)
    for size in (0.3, 0.03, 0.003):
        for _ in range(20):
            step = torch.randn(x.shape, generator=rng, dtype=torch.float64)
            smooth = torch.nn.functional.avg_pool2d(
                step, 9, 1, 4
            )  # rough steps only raise TV: try both kinds
            for direction in (step, smooth, x, A.T(A(x) - y)):
                other = (x + size * direction / direction.norm()).clamp_min(0)
                # 1e-4: what 2000 steps leave of the distance to the minimum (test below).
                assert (objective(A, other, y, weight) > best * (1 - 1e-4)).all()


def test_total_variation_converges():
    A, _, y = small_scan()
    values = {
        k: objective(A, classical.total_variation(A, y, 1e-3, iterations=k), y, 1e-3) for k in (20, 200, 4000)
    }
    assert (values[4000] < values[200]).all()
    assert (values[200] < values[20]).all()
    # The default of 200 steps is within 1 % of the minimum for weights used on scans; heavier weights need more.
    assert (values[200] < 1.01 * values[4000]).all()


def test_total_variation_beats_the_others_at_its_own_objective():
    A, x, y = small_scan()
    ours = objective(A, classical.total_variation(A, y, 1e-3), y, 1e-3)
    others = [classical.fbp(A, y), *(classical.tikhonov(A, y, w) for w in (1e-4, 1e-3, 1e-2)), x]
    for other in others:
        assert (ours < objective(A, other.clamp_min(0), y, 1e-3)).all()
