"""The worst perturbation δ of a measurement y for a given reconstruction f, ‖δ‖₂ ≤ ε, and doubts about having found it.

A search by gradients gives a *lower bound* on the worst-case error: it proves that an error is possible, never that a
larger one is not. Only ``exact_worst_case``, for linear f, is optimal.
"""

import functools
import warnings

import torch

from ir_helpers.ascent import long_steps, measured_steps, project
from ir_helpers.checks import (
    NotFinite,
    check_attack_inputs,
    check_batch,
    check_callable,
    check_like,
    check_seed,
    positive_int,
    radius_per_sample,
)
from ir_helpers.doubts import AttackCheck, AttackWarning, find_doubts, ratio, slopes
from ir_helpers.linear_operator import check_operator
from ir_helpers.per_sample import error_and_slope, errors, normalised, norms, spread
from ir_helpers.race import racing_steps
from ir_helpers.trust_region import exact_worst_case

# Of a first long step, in units of ε; the second search by long steps takes shorter ones, and so on in turn.
_LONGEST, _SHARES = 8.0, (1.0, 1 / 4)
# Two searches begin near zero: the first step follows the gradient at y, which for linear f has the optimum's signs.
_NEAR_ZERO = 1e-4
_TURNS = {"long": ("long", "measured"), "measured": ("measured", "long"), "race": ("race", "measured")}
_RULES = ("both", *_TURNS)
_ENOUGH = 100  # steps for two searches; half of them still find the optimum of linear maps

__all__ = ["AttackCheck", "AttackWarning", "check_attack", "exact_worst_case", "project"]
__all__ += ["random_perturbation", "worst_case", "worst_case_image"]


def worst_case(
    reconstruct, y, target, radius, *, steps=50, restarts=1, seed=0, start=None, rule="both", longest=_LONGEST
):
    """Search δ with ‖δ‖₂ ≤ ε that maximises the error ‖f(y + δ) − x‖₂² of each sample, by projected gradient ascent.

    Each step goes along the normalised gradient g/‖g‖ and projects onto the ball. Nesterov's extrapolation moves along flat
    directions. The best iterate is kept.

    Long steps are ``longest``, 8ε so that they cross the ball, for the first third of the search, and then shrink by a factor of
    160; in under 50 steps both are less, and from a given ``start`` they last a half. On linear maps this is an accelerated
    power iteration: within 0.5 % of the optimum in 50 steps, a single sample 2 % where singular values crowd at the top.
    Measured steps, of ε/8 at first, get longer or shorter as the gradient predicts well what they gain. On small networks long
    steps find more, on large ones that were trained against steps measured ones. So of 100 steps and more each rule gets
    half, in a search of its own; fewer are all long.

    Parameters
    ----------
    reconstruct : callable
        f, from data (B, \\*data_shape) to images, differentiable, each sample independent of the others in its batch:
        put a network in evaluation mode.
    y : torch.Tensor
        (B, \\*data_shape), the data to perturb.
    target : torch.Tensor
        x, of the shape of f(y).
    radius : float or torch.Tensor
        ε ≥ 0, one number or one for each sample, shape (B,).
    steps : int
        Gradient evaluations for each restart.
    restarts : int
        Independent searches, two from near zero, the others from the sphere; the best δ of each sample is kept.
    seed : int
        Seed of the starting points.
    start : torch.Tensor, optional
        A δ to begin the first of the ``restarts`` from, of the shape of y; it is projected onto the ball.
    rule : str
        "long" or "measured" in the first search, then restarts take turns; "both" is "long" where steps are under 100. "race"
        takes each sample on by what climbs higher (``ir_helpers.race``), with measured steps in every second search.
    longest : float or torch.Tensor
        Length of the first long steps in units of ε, one number or one for each sample, shape (B,).

    Returns
    -------
    torch.Tensor
        δ, of the shape of y.

    Raises
    ------
    ValueError, TypeError
        If shapes, devices or dtypes do not match, a number is not finite, or ε is negative.
    """
    check_callable("reconstruct", reconstruct)
    radius = check_attack_inputs(y, target, radius)
    positive_int("steps", steps), positive_int("restarts", restarts), check_seed(seed)
    if start is not None:
        check_like("start", start, y)
    if rule not in _RULES:
        raise ValueError(f"rule must be one of {', '.join(_RULES)}, got {rule!r}")
    longest, target = radius_per_sample(longest, y, "longest"), target.detach()
    clean, scale = errors(reconstruct, y.detach(), target)
    best, best_error = torch.zeros_like(y), clean.detach()
    objective = error_and_slope(reconstruct, y.detach(), target, scale)
    unit = scale.flatten()
    for begin, each, count, first, given in _searches(y, radius, steps, restarts, seed, start, rule):
        begin = project(begin, radius)
        if each == "long":
            search = long_steps(objective, begin, radius, count, longest=first * longest, given=given)
        elif each == "measured":
            search = measured_steps(objective, begin, radius, count, unit=unit)
        else:
            search = racing_steps(objective, begin, radius, count, unit=unit, given=given)
        for delta, error in search:
            better = error > best_error
            best_error = torch.where(better, error, best_error)
            best = torch.where(spread(better, y), delta, best)
    return best


def _searches(y, radius, steps, restarts, seed, start, rule):
    """Yield of each search δ, the rule of its steps, their number, their share of the longest, and whether δ was given."""
    if start is not None:
        for each, count in _plan(steps, 1, rule):
            yield start.detach(), each, count, 1.0, True
    for k, (each, count) in enumerate(_plan(steps, restarts - (start is not None), rule)):
        begin = random_perturbation(y, _NEAR_ZERO * radius if k < 2 else radius, seed=seed + k)
        yield begin, each, count, _SHARES[k // 2 % len(_SHARES)], False


def _plan(steps, restarts, rule):
    """Return the rule and the number of steps of each search."""
    if rule == "both" and steps >= _ENOUGH:
        return [("long", steps - steps // 2), ("measured", steps // 2)] * restarts
    return [(_TURNS["long" if rule == "both" else rule][k % 2], steps) for k in range(restarts)]


def worst_case_image(reconstruct, A, x, radius, *, steps=50, restarts=1, seed=0):
    """Search the perturbation r of the *image*, ‖r‖₂ ≤ ε, that maximises ‖f(A(x + r)) − x‖₂² for each sample.

    In the data this is the perturbation A r: the search is confined to Range(A), and to what ‖r‖ ≤ ε reaches there.
    Arguments as in ``worst_case``; x has shape (B, \\*A.image_shape), and so has the returned r.

    References
    ----------
    V. Antun et al., PNAS 117 (2020), doi:10.1073/pnas.1907377117.
    """
    check_operator(A)
    check_callable("reconstruct", reconstruct)
    check_batch("x", x, A.image_shape)
    return worst_case(
        lambda image: reconstruct(A(image)), x, x, radius, steps=steps, restarts=restarts, seed=seed
    )


def check_attack(reconstruct, y, target, delta, *, radius=None, steps=50, directions=10, seed=0):
    """Look for reasons to doubt that δ is close to the worst perturbation, and warn of each.

    Seven questions: is the reconstruction repeatable, does it treat each sample by itself, does its gradient vanish, does
    it explode, does it predict finite differences, along δ and along random directions, does random noise of the same norm do
    as much harm, and do further steps, of either rule, gain more than 2 %? A search that passes may still have missed the worst case.

    Parameters
    ----------
    reconstruct, y, target
        As in ``worst_case``.
    delta : torch.Tensor
        The perturbation found, of the shape of y.
    radius : float or torch.Tensor, optional
        The ε of the attack; None takes the norm of each δ.
    steps : int
        The steps of the attack under test; the check continues for twice as many by each rule.
    directions : int
        Random perturbations to try.
    seed : int
        Seed of these.

    Returns
    -------
    AttackCheck

    Warns
    -----
    AttackWarning : for each doubt.

    References
    ----------
    F. Croce and M. Hein, "Reliable evaluation of adversarial robustness", ICML 2020, arXiv:2003.01690.
    """
    check_callable("reconstruct", reconstruct)
    check_batch("y", y)
    check_like("delta", delta, y)
    radius = check_attack_inputs(y, target, norms(delta).flatten() if radius is None else radius)
    positive_int("steps", steps), positive_int("directions", directions), check_seed(seed)
    y, target, delta = y.detach(), target.detach(), delta.detach()
    scale = errors(reconstruct, y + delta, target)[1]
    search = functools.partial(worst_case, reconstruct, y, target, radius)

    def harm(perturbation):
        error, _ = errors(reconstruct, y + perturbation, target, scale)
        return error.detach().double() * scale.flatten().double() ** 2

    clean, error, again = harm(torch.zeros_like(y)), harm(delta), harm(delta)
    noise = [random_perturbation(y, radius, seed=seed + k) for k in range(directions)]
    draws = torch.stack([harm(each) for each in noise]).amax(0)
    company = harm(torch.cat([delta[:1], -0.5 * y[1:]]))  # the first sample among others than before
    at_y, at_delta = (
        slopes(reconstruct, y + part * delta, target, scale, [delta, *noise]) for part in (0, 1)
    )
    steepest = torch.stack([at_y[1], at_delta[1]])
    exploding = (~torch.isfinite(steepest)).any(0).double().mean().item()
    try:
        longer = [search(steps=2 * steps, seed=seed, start=delta, rule=rule) for rule in ("long", "measured")]
    except NotFinite:
        longer, exploding = [delta], exploding or 1.0
    # Where f is exact the error has its minimum, 0, and a gradient of zero is no reason for doubt.
    flat = (steepest == 0) & (torch.stack([clean, error]) > 1e-12 * error.mean())
    gaps = torch.stack([at_y[0], at_delta[0]], 1)
    found = {
        "error": error.mean().item(),
        "clean_error": clean.mean().item(),
        "random_error": draws.mean().item(),
        "longer_error": torch.stack([harm(one) for one in longer]).amax(0).mean().item(),
        "vanishing": flat.any(0).double().mean().item(),
        "slope_mismatch": gaps[0].median().item(),
        "repeat_gap": ratio((error - again).abs().mean(), error.mean()),
        "exploding": exploding,
        "hidden_slope": gaps[1:].median().item(),
        "batch_gap": ratio((error - company)[0].abs(), error[0]),
    }
    doubts = tuple(find_doubts(found))
    for doubt in doubts:
        warnings.warn(doubt, AttackWarning, stacklevel=2)
    return AttackCheck(**found, doubts=doubts)


def random_perturbation(y, radius, *, seed=0):
    """Return δ uniformly distributed on the sphere ‖δ‖₂ = ε, of the shape of y: what chance does, not an adversary."""
    check_batch("y", y)
    radius = radius_per_sample(radius, y)
    generator = torch.Generator().manual_seed(check_seed(seed))
    direction = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device, y.dtype)
    return spread(radius, y) * normalised(direction)
