"""What speaks against the result of an attack: the figures, the thresholds, the words."""

from typing import NamedTuple


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
    doubts: tuple  # one sentence for each test that failed; empty where nothing speaks against the attack


def find_doubts(found):
    """Yield a sentence for each figure that speaks against the attack."""
    if found["repeat_gap"] > 1e-4:
        yield "two evaluations at one point differ: f is random, so average its gradient over many draws"
    if found["vanishing"] > 0:
        yield f"the gradient is zero for {found['vanishing']:.0%} of the samples: f is flat there, or hides its slope"
    if found["slope_mismatch"] > 0.2:
        yield "finite differences disagree with the gradient: it is masked, or f is rough at that scale"
    clean = found["clean_error"]
    if found["random_error"] - clean >= 0.98 * (found["error"] - clean):
        yield "random noise of the same norm does as much harm: the search did not find a worst direction"
    if found["longer_error"] > 1.02 * found["error"]:
        yield f"further steps raise the error by {found['longer_error'] / found['error'] - 1:.0%}: search longer"
