"""Projected gradient ascent of the error, sample by sample, by two rules for the lengths of steps.

*Long steps* cross the ball ‖δ‖₂ ≤ ε and shrink by a schedule. On linear maps they are a power iteration; on small networks they
jump over poor maxima. *Measured steps* are as long as the gradient predicts well: after a step that gains much less than
predicted the next is shorter, after one that gains as much it is longer. They climb where long steps jump about, as on large
networks that were trained against steps. Neither is the better on all networks.
"""

import torch

from ir_helpers.checks import check_batch, radius_per_sample
from ir_helpers.per_sample import normalised, norms, spread

__all__ = ["FINISH", "FIRST", "LAST", "long_steps", "measured_length", "measured_steps", "project"]

# Lengths of steps in units of ε; the chapter on the worst case shows what other rules miss.
_DECAY = 1 / 160  # of the long steps
# How long the longest steps last; under 50 steps less finds more. Training searches from a start, by the rule it always had.
_HOLD, _HOLD_FROM_START, _MANY = 1 / 3, 1 / 2, 50
FIRST, _SHORTEST, _CROSSING = 1 / 8, 1e-3, 8.0  # of the measured steps
_POOR, _GOOD = 0.25, 0.75  # shares of the predicted gain
FINISH, LAST = 0.7, 0.1  # measured steps are made shorter after this share of the search, down to a tenth


def project(delta, radius):
    """Return the point of the ball ‖δ‖₂ ≤ ε nearest to each δ: δ · min(1, ε / ‖δ‖₂).

    Parameters
    ----------
    delta : torch.Tensor
        (B, ...).
    radius : float or torch.Tensor
        ε ≥ 0, or one for each sample.
    """
    check_batch("delta", delta)
    radius, length = spread(radius_per_sample(radius, delta), delta), norms(delta)
    return delta * torch.where(length > radius, radius / length, torch.ones_like(length))


def long_steps(objective, delta, radius, steps, *, longest, given):
    """Yield (δ, error) at each point of a search: one with a gradient for each step, then the end point.

    Parameters
    ----------
    objective : callable
        ``objective(δ, True)`` returns the error of each sample, (B,), and its gradient, in any unit; ``objective(δ, False)``
        the error and None.
    delta : torch.Tensor
        The first δ, within the ball.
    radius, longest : torch.Tensor
        ε, and the first steps in units of ε, (B,).
    steps : int
        Gradient evaluations.
    given : bool
        Whether the first δ is one to improve, and not just a place to begin.
    """
    full = 1.0 if given else min(1.0, steps / _MANY)
    hold, decay = (_HOLD_FROM_START if given else full * _HOLD), _DECAY ** ((1 + full) / 2)
    previous, lengths = delta, spread(longest * radius, delta)
    for k in range(steps):
        point = project(delta + k / (k + 2) * (delta - previous), radius)
        error, slope = objective(point, True)
        yield point, error
        part = decay ** max(0.0, (k / steps - hold) / (1 - hold))
        previous, delta = delta, project(point + part * lengths * normalised(slope), radius)
    yield delta, objective(delta, False)[0]


def measured_length(length, gain, predicted):
    """Return the next length of a measured step, in units of ε: halved after a poor gain, doubled after a good one."""
    length = torch.where(gain > _GOOD * predicted, (2 * length).clamp_max(_CROSSING), length)
    return torch.where(gain < _POOR * predicted, (length / 2).clamp_min(_SHORTEST), length)


def measured_steps(objective, delta, radius, steps, *, unit):
    """Yield (δ, error) at each point of a search by steps that are as long as the gradient predicts well.

    A step from p to q should gain 〈g, q − p〉. Where it gains less than a quarter, the next step is half as long; where it gains
    more than three quarters, twice. Nesterov's momentum begins anew where the error falls.

    Parameters
    ----------
    objective, delta, radius, steps
        As in ``long_steps``.
    unit : torch.Tensor
        The unit of the gradient that ``objective`` returns, for each sample, (B,).

    References
    ----------
    A. R. Conn, N. I. M. Gould and Ph. L. Toint, Trust-Region Methods, SIAM 2000, doi:10.1137/1.9780898719857.
    B. O'Donoghue and E. Candès, Foundations of Computational Mathematics 15 (2015), doi:10.1007/s10208-013-9150-3.
    """
    previous, age, length = delta, torch.zeros_like(radius), torch.full_like(radius, FIRST)
    last = None
    for k in range(steps):
        point = project(delta + spread(age / (age + 2), delta) * (delta - previous), radius)
        error, slope = objective(point, True)
        yield point, error
        if last is not None:
            gain, predicted = error - last[1], (last[2] * (point - last[0])).flatten(1).sum(1) / unit
            length, age = measured_length(length, gain, predicted), torch.where(gain < 0, 0.0, age)
        last, age = (point, error, slope), age + 1
        part = LAST ** max(0.0, (k / steps - FINISH) / (1 - FINISH))
        previous, delta = (
            delta,
            project(point + spread(part * length * radius, slope) * normalised(slope), radius),
        )
    yield delta, objective(delta, False)[0]
