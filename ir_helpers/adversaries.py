"""Where the perturbation δ comes from in training: chance, one δ for all, the worst of each sample, or a network.

``training.fit`` asks an adversary for δ once for each batch. All have the same interface: ``perturb(f, y, x)`` returns δ of the
shape of y, ``begin_epoch(seed)`` sets the chance of an epoch, ``state()`` and ``load_state(state)`` serve checkpoints, and
``evaluations`` counts the search's cost so far: a batch of B that goes forward and backward through f counts B.

Each takes a radius: a number ε ≥ 0, or a function from y to one ε for each sample such as ``relative(0.02)``.
"""

import torch

from ir_helpers import attacks, processes
from ir_helpers.adversary import Adversary, Searching, relative
from ir_helpers.checks import check_attack_inputs, check_batch, not_negative, positive_int
from ir_helpers.generator import Generator
from ir_helpers.per_sample import check_gradient, errors, normalised, powers_of_two

__all__ = ["Adversary", "Common", "Generator", "Noise", "PerSample", "Stored", "relative"]


# Searches begin close to zero, where the gradient is that at y. Not at zero: where f(y) = x it has no gradient.
_SMALL = 1e-5


class Noise(Adversary):
    """Random δ, uniform on the sphere ‖δ‖₂ = ε: no adversary at all, the fair comparison of equal norm.

    Parameters
    ----------
    radius : float or callable
        ε.

    References
    ----------
    A. Krainovic, M. Soltanolkotabi and R. Heckel, "Learning provably robust estimators for inverse problems via jittering",
    NeurIPS 2023, arXiv:2307.12822.
    """

    replayable = False  # the numbers come from the CPU, the same on every machine

    def perturb(self, f, y, x):
        """Return δ for the data y of the images x."""
        check_batch("y", y)
        return attacks.random_perturbation(y, self.radii(y), seed=self.next_seed())


class PerSample(Searching):
    """The worst δ of every sample, searched anew in every batch by ``attacks.worst_case``: the talk's first problem.

    Parameters
    ----------
    radius : float or callable
        ε.
    steps : int
        Gradient evaluations for each sample and batch.
    longest : float or pair of float
        First steps in units of ε, for the whole batch or spread over it.

    References
    ----------
    A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, arXiv:1706.06083.
    """

    def __init__(self, radius, steps, longest=8.0):
        super().__init__(radius, longest)
        self.steps = positive_int("steps", steps)

    def settings(self):
        """Return what makes this adversary another one than its like."""
        return super().settings() | {"steps": self.steps}

    def perturb(self, f, y, x):
        """Return δ for the data y of the images x."""
        check_batch("y", y)
        return self.search(f, y, x, steps=self.steps, start=_small(y))


class Stored(PerSample):
    """As ``PerSample``, but each search goes on from the δ that the same image had in the epoch before.

    A few steps an epoch add up to a long search, at the price of the memory for one δ for each training image. In the
    first epoch a search starts from zero.

    Parameters
    ----------
    radius : float or callable
        ε.
    steps : int
        Gradient evaluations for each sample and epoch.
    longest : float or pair of float
        First steps in units of ε, for the whole batch or spread over it.

    References
    ----------
    The idea of carrying perturbations over: A. Shafahi et al., "Adversarial training for free!", NeurIPS 2019,
    arXiv:1904.12843, who carry them from batch to batch.
    """

    replayable = False  # the index is another in every batch
    shareable = False  # the next epoch may give an image to another process

    def __init__(self, radius, steps, longest=8.0):
        super().__init__(radius, steps, longest)
        self.memory = None

    def perturb(self, f, y, x):
        """Return δ for the data y of the images x, which ``training.fit`` has named in ``index``."""
        check_batch("y", y)
        if self.index is None or len(self.index) != len(y):
            raise ValueError("Stored needs to know which images these are: set index, or use training.fit")
        missing = int(self.index.max()) + 1 - (0 if self.memory is None else len(self.memory))
        if missing > 0:
            fresh = y.new_zeros(missing, *y.shape[1:])
            self.memory = fresh if self.memory is None else torch.cat([self.memory, fresh])
        self.memory, index = self.memory.to(y), self.index.to(y.device)
        start = self.memory[index] + _small(y)
        found = self.search(f, y, x, steps=self.steps, start=start)
        self.memory[index] = found
        return found

    def state(self):
        """Return what a checkpoint must keep, as a dict."""
        return super().state() | ({} if self.memory is None else {"memory": self.memory.clone()})

    def load_state(self, state):
        """Take over what ``state()`` gave."""
        super().load_state(state)
        self.memory = state["memory"].clone() if "memory" in state else None


class Common(Adversary):
    """One direction for all samples, moved uphill by one step in every batch: the talk's second problem.

    The perturbation of a sample is δ = ε d with a unit vector d common to all. Each batch moves d along the mean
    gradient, d ← normalised(d + step · g / ‖g‖), before f is trained on it.

    Parameters
    ----------
    radius : float or callable
        ε.
    step : float
        Length of a step in units of ε.
    """

    def __init__(self, radius, *, step=0.1):
        super().__init__(radius)
        self.step = not_negative("step", step)
        self.direction = None

    def settings(self):
        """Return what makes this adversary another one than its like."""
        return super().settings() | {"step": self.step}

    def perturb(self, f, y, x):
        """Return δ for the data y of the images x."""
        check_batch("y", y)
        radii = check_attack_inputs(y, x, self.radii(y)).reshape(-1, *[1] * (y.ndim - 1))
        if self.direction is None:
            self.direction = attacks.random_perturbation(y[:1], 1.0, seed=self.next_seed())
        self.direction = self.direction.to(y)  # from a checkpoint it comes on the CPU
        direction = self.direction.clone().requires_grad_()
        with torch.enable_grad():
            error, scale = errors(f, y + radii * direction, x)
            mean = (error * (scale / scale.amax()).flatten() ** 2).mean()  # in one unit for all
            (gradient,) = torch.autograd.grad(mean, direction)
        processes.average([gradient])
        check_gradient(gradient)
        gradient = gradient / powers_of_two(gradient)  # a norm of 0 is then that of a gradient of 0
        moved = self.direction + self.step * gradient / gradient.norm().clamp_min(0.5)
        self.direction.copy_(normalised(moved))
        self.evaluations += len(y)
        return radii * self.direction

    def state(self):
        """Return what a checkpoint must keep, as a dict."""
        known = {} if self.direction is None else {"direction": self.direction.clone()}
        return super().state() | known

    def load_state(self, state):
        """Take over what ``state()`` gave."""
        super().load_state(state)
        self.direction = state["direction"].clone() if "direction" in state else None


def _small(y):
    """Return a δ near zero, of a direction that no random number decides."""
    return _SMALL * y
