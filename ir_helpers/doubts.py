"""What speaks against the result of an attack: the figures, the thresholds, the words."""

from typing import NamedTuple

import torch

from ir_helpers.per_sample import errors, gradient

# Measured on sound reconstructions, the trained networks among them: up to 0.02 and 0.04.
_MISMATCH, _HIDDEN = 0.1, 0.07
_ROUNDING = 1000  # rounding errors of an error: the largest slope that these may make


class AttackWarning(UserWarning):
    """The result of an attack is not to be trusted as an estimate of the worst case."""


class AttackCheck(NamedTuple):
    """What ``check_attack`` measured; errors are means over the batch of ‖f(y + δ) − x‖²."""

    error: float  # at the δ under test
    clean_error: float  # without perturbation
    random_error: float  # the largest over the random directions of the same norm, per sample
    longer_error: float  # after twice as many further steps, starting from δ
    vanishing: float  # share of samples whose gradient is zero, at y or at y + δ
    slope_mismatch: float  # median relative gap between the gradient's slope along δ and finite differences
    repeat_gap: float  # relative difference between two evaluations at the same point
    exploding: float  # share of samples with a NaN or infinite gradient, at y or y + δ; 1 if the further search met one
    hidden_slope: float  # as slope_mismatch, along random directions
    batch_gap: float  # relative change of the first sample's error when the rest of its batch is halved
    doubts: tuple  # one sentence for each test that failed; empty where nothing speaks against the attack


def find_doubts(found):
    """Yield a sentence for each figure that speaks against the attack."""
    if found["repeat_gap"] > 1e-4:
        yield "two evaluations at one point differ: f is random, so average its gradient over many draws"
    if found["batch_gap"] > max(1e-3, 10 * found["repeat_gap"]):
        yield "the samples of a batch influence each other: put f in evaluation mode"
    if found["exploding"] > 0:
        yield f"the gradient is NaN or infinite for {found['exploding']:.0%} of the samples: no search can follow it"
    if found["vanishing"] > 0:
        yield f"the gradient is zero for {found['vanishing']:.0%} of the samples: f is flat there, or hides its slope"
    if found["slope_mismatch"] > _MISMATCH:
        yield "finite differences disagree with the gradient: it is masked, or f is rough at that scale"
    elif found["hidden_slope"] > _HIDDEN:
        yield "finite differences disagree with the gradient along random directions: a part of it is masked"
    clean = found["clean_error"]
    if found["random_error"] - clean >= 0.98 * (found["error"] - clean):
        yield "random noise of the same norm does as much harm: the search did not find a worst direction"
    if found["longer_error"] > 1.02 * found["error"]:
        yield f"further steps raise the error by {found['longer_error'] / found['error'] - 1:.0%}: search longer"


def slopes(reconstruct, y, target, scale, directions):
    """Compare the error's gradient at y with central differences along some directions.

    Returns
    -------
    gaps : torch.Tensor
        (directions, B): |a − b| / (|a| + |b|) for the slopes a and b by the two; 1 where the gradient is not finite.
    steepest : torch.Tensor
        (B,): the norm of the gradient in some unit, NaN or infinite where that is not finite.
    """
    point = y.clone().requires_grad_()
    with torch.enable_grad():
        error, _ = errors(reconstruct, point, target, scale)
        slope = gradient(error, scale, point)
    small = 0.01  # of a direction: large against rounding, small against the curvature of a sound network
    gaps = []
    for direction in directions:
        with torch.no_grad():
            ahead, behind = (
                errors(reconstruct, y + sign * small * direction, target, scale)[0] for sign in (1, -1)
            )
        measured = (ahead - behind) / (2 * small)
        predicted = (slope * direction).flatten(1).sum(1) / scale.flatten()
        # A slope that rounding could make is none.
        floor = _ROUNDING * torch.finfo(y.dtype).eps * (ahead + behind) + 1e-30
        gap = (predicted - measured).abs() / (predicted.abs() + measured.abs() + floor)
        gaps.append(gap.nan_to_num(nan=1.0))
    return torch.stack(gaps), slope.flatten(1).norm(dim=1)


def ratio(part, whole):
    """Return part / whole as a float, 0 where both are 0."""
    return (part / whole).item() if part > 0 else 0.0
