"""A race of two searches for the worst δ: steps from the sphere that shrink, and measured ones from near the data.

Neither is the better on all networks. After a heat each, every sample goes on with the search that climbs higher. Where the error is
convex, as on linear maps, there is no race: steps that get longer are a power iteration there.
"""

from typing import NamedTuple

import torch

from ir_helpers.ascent import FINISH, FIRST, LAST, measured_length, project
from ir_helpers.per_sample import normalised, spread

__all__ = ["racing_steps"]

_FEWEST = 50  # steps that are enough for a race
_TRIAL, _HEAT = 3, 0.3  # steps that show whether the error is convex; share of all steps in a heat
_LEAD = 1.1  # measured steps win with so many times the error of the others, whose steps are still long
_SHRINK, _LONGEST, _ROUNDING = 1 / 40, 8.0, 1e-5


class _Search(NamedTuple):
    """Where a search is, a row for each sample."""

    delta: torch.Tensor  # (B, ...), as are ``previous``, ``point`` and ``slope``
    previous: torch.Tensor
    age: torch.Tensor  # of the momentum, (B,), as are all others
    length: torch.Tensor  # of a step, in units of ε
    taken: torch.Tensor  # steps
    point: torch.Tensor  # where the last gradient was taken
    slope: torch.Tensor
    error: torch.Tensor  # there
    best: torch.Tensor  # error so far


def racing_steps(objective, delta, radius, steps, *, unit, given):
    """Yield (δ, error) at each point of the race: one with a gradient for each of the ``steps``, then the end point.

    1. Three steps of ε each (2ε where few are to come) with Nesterov's momentum. Where each gains at least what the gradient
       predicts, the error is convex along them, and steps double, up to 8ε.
    2. The other samples begin anew on the sphere, with a heat of such steps, which shrink to a fortieth over the search.
    3. Then they begin near the data, with a heat of measured steps, as in ``measured_steps``.
    4. Each sample goes on with the measured steps if these lead by a tenth, else with the others, which shrink only now.

    In under 50 steps there is no race: all but the convex samples take steps that shrink.

    Parameters
    ----------
    objective, delta, radius, steps, unit
        As in ``measured_steps``.
    given : bool
        Whether the first δ is one to improve: then all begin there. Otherwise those on the sphere begin in its direction.
    """
    far = delta if given else spread(radius, delta) * normalised(delta)
    heat = int(_HEAT * steps) if steps >= _FEWEST else 0
    bold, measured = _begin(delta, radius, 2 - min(1.0, steps / _FEWEST)), _begin(delta, radius, FIRST)
    convex = torch.ones_like(radius, dtype=torch.bool)
    turn, total = ~convex, torch.full_like(radius, steps)
    for k in range(steps):
        if heat and k == _TRIAL:
            bold = _choose(convex, bold, _begin(far, radius, 1.0)._replace(best=bold.best))
            total = torch.where(convex, total, steps - heat - _TRIAL)
        if heat and k == _TRIAL + heat:
            turn = ~convex
        if heat and k == _TRIAL + 2 * heat:
            turn = ~convex & (measured.best > _LEAD * bold.best)
        point = torch.where(spread(turn, delta), _ahead(measured, radius), _ahead(bold, radius))
        error, slope = objective(point, True)
        yield point, error
        step = (point, error, slope, radius)
        gain, predicted = _gain(bold, point, error, unit)
        convex = convex & (turn | (bold.taken == 0) | (gain >= (1 - _ROUNDING) * predicted))
        length = torch.where(convex & (bold.taken > 0), (2 * bold.length).clamp_max(_LONGEST), bold.length)
        part = _SHRINK ** (bold.taken / total)
        bold = _choose(turn, bold, _moved(bold, *step, length, part, bold.age))
        gain, predicted = _gain(measured, point, error, unit)
        fell, length = gain < 0, measured_length(measured.length, gain, predicted)
        part = LAST ** ((measured.taken / (steps - heat) - FINISH) / (1 - FINISH)).clamp_min(0)
        age = torch.where(fell, 0.0, measured.age)
        measured = _choose(turn, _moved(measured, *step, length, part, age), measured)
    delta = torch.where(spread(turn, delta), measured.delta, bold.delta)
    yield delta, objective(delta, False)[0]


def _begin(delta, radius, length):
    """Return a search at δ that has taken no step; its gains are NaN, which neither lengthens nor shortens a step."""
    zero, nothing = torch.zeros_like(radius), torch.zeros_like(delta)
    return _Search(delta, delta, zero, zero + length, zero, delta, nothing, zero + torch.nan, zero - 1)


def _choose(which, one, other):
    """Return ``one`` where ``which`` is true, else ``other``."""
    return _Search(*(torch.where(spread(which, a), a, b) for a, b in zip(one, other, strict=True)))


def _ahead(search, radius):
    """Return where Nesterov's momentum leads to."""
    part = spread(search.age / (search.age + 2), search.delta)
    return project(search.delta + part * (search.delta - search.previous), radius)


def _gain(search, point, error, unit):
    """Return what the last step gained, and what its gradient predicted."""
    predicted = (search.slope * (point - search.point)).flatten(1).sum(1) / unit
    return error - search.error, predicted


def _moved(search, point, error, slope, radius, length, part, age):
    """Return the search after a step of ``part`` of ``length`` from the point."""
    delta = project(point + spread(part * length * radius, slope) * normalised(slope), radius)
    best = torch.maximum(search.best, error)
    return _Search(delta, search.delta, age + 1, length, search.taken + 1, point, slope, error, best)
