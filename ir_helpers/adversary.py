"""What all adversaries of `adversaries` share."""

from dataclasses import dataclass

import torch

from ir_helpers import attacks
from ir_helpers.checks import check_batch, check_seed, not_negative, positive, radius_per_sample
from ir_helpers.per_sample import norms

__all__ = ["Adversary", "Searching", "relative"]


def relative(share):
    """Return the function y ↦ ε = share · ‖y‖₂ of each sample, for radii relative to the data.

    Parameters
    ----------
    share : float or pair of float
        One for all, or the smallest and the largest: then the shares of a batch are spread geometrically between them. A network
        trained at one ε can be weak at smaller ones.

    Raises
    ------
    ValueError
        If a share is negative, or one of a pair is 0, or there are more than two.
    """
    if isinstance(share, (tuple, list)):
        if len(share) != 2:
            raise ValueError(f"share must be a number or a pair of numbers, got {share!r}")
        return _Relative(tuple(positive("share", one) for one in share))
    share = not_negative("share", share)
    return _Relative((share, share))


# Multiples of the golden ratio's fractional part fill [0, 1) evenly, in an order that has nothing to do with that of step lengths.
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class _Relative:
    shares: tuple

    def __call__(self, y):
        check_batch("y", y)
        length, (first, last) = norms(y.detach()).flatten(), self.shares
        if first == last:
            return first * length
        place = torch.arange(1, len(y) + 1, dtype=y.dtype, device=y.device) * _GOLDEN % 1
        return first * (last / first) ** place * length


class Adversary:
    """What all adversaries share: a radius, chance that an epoch's seed determines, and a count."""

    # Whether ``perturb`` takes nothing from the CPU but y and x, so that a step of training can be replayed.
    replayable = True
    # Whether several processes can train against it together: not if it keeps something for each image.
    shareable = True

    def __init__(self, radius):
        self.radius = radius if callable(radius) else not_negative("radius", radius)
        self.evaluations = 0
        self.index = None  # set by training: the places of the batch's images in the training set
        self._seed = 0

    def settings(self):
        """Return what makes this adversary another one than its like: a checkpoint keeps it, to refuse the wrong one."""
        radius = repr(self.radius) if callable(self.radius) else self.radius
        return {"kind": type(self).__name__, "radius": radius}

    def begin_epoch(self, seed):
        """Set the chance of the coming epoch: what follows depends on the seed and the batches alone."""
        self._seed = check_seed(seed)

    def state(self):
        """Return what a checkpoint must keep between two epochs, as a dict."""
        return {"evaluations": self.evaluations}

    def load_state(self, state):
        """Take over what ``state()`` gave."""
        self.evaluations = state["evaluations"]

    def radii(self, y):
        """Return ε of each sample, shape (B,)."""
        return radius_per_sample(self.radius(y) if callable(self.radius) else self.radius, y)

    def next_seed(self):
        """Return a seed that no other batch of the epoch uses."""
        self._seed += 1
        return self._seed


class Searching(Adversary):
    """What adversaries share that search by ``attacks.worst_case``.

    A network learns the rule of the steps that it is trained with, and becomes robust to that rule alone. Where ``longest`` is
    a pair, the first steps are spread geometrically over the batch, from the one length to the other, so there is no one rule
    to learn.

    Parameters
    ----------
    radius : float or callable
        ε.
    longest : float or pair of float
        Length of a search's first steps in units of ε.
    """

    def __init__(self, radius, longest):
        super().__init__(radius)
        pair = longest if isinstance(longest, (tuple, list)) else (longest, longest)
        if len(pair) != 2:
            raise ValueError(f"longest must be a number or a pair of numbers, got {longest!r}")
        self.longest = tuple(positive("longest", length) for length in pair)

    def settings(self):
        """Return what makes this adversary another one than its like."""
        return super().settings() | {"longest": list(self.longest)}

    def search(self, f, y, x, *, steps, start):
        """Return the δ that as many steps find from the given start, and count them."""
        self.evaluations += steps * len(y)
        first, last = self.longest
        place = torch.linspace(0, 1, len(y), dtype=y.dtype, device=y.device)
        longest = first * (last / first) ** place
        return attacks.worst_case(
            f, y, x, self.radii(y), steps=steps, start=start, rule="long", longest=longest
        )
