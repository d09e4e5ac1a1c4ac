"""The adversary of the min-max game: a network that proposes δ, trained against f while f is trained against it."""

import torch
from torch.nn.functional import cosine_similarity

from ir_helpers import processes
from ir_helpers.adversary import Searching
from ir_helpers.checks import check_batch, positive, positive_int
from ir_helpers.per_sample import powers_of_two, spread

__all__ = ["Generator"]


class Generator(Searching):
    """A network G proposes δ for each sample; the talk's third problem, the one this book is about.

    With ``ascent_steps = 0`` it is the talk's alternation: G climbs, by ``inner_steps`` steps of its optimiser in every
    batch,

        max over φ of E ‖f(y + G(y)) − x‖² − penalty · max(0, ‖G(y)‖² − ε²),

    and f is then trained on δ = G(y). Where ``penalty`` is None the length is not left to the hinge: δ = ε G(y)/‖G(y)‖.

    With ``ascent_steps > 0``, this book's variant, G proposes a start from which as many steps of ``attacks.worst_case`` climb,
    f is trained on what they find, and G learns to propose that: it minimises the angle between G(y) and δ, which costs no
    pass through f.

    Parameters
    ----------
    network : networks.Perturber
        G, trained in place.
    radius : float or callable
        ε.
    penalty : float, optional
        The weight −λ₂ > 0 of the hinge; None puts δ on the sphere.
    inner_steps : int
        K, optimiser steps of G in every batch.
    ascent_steps : int
        Gradient steps after G's proposal.
    parts : int
        In how many parts the batch is cut for the inner steps, which take them in turn: K steps cost K / parts gradient
        evaluations for each sample.
    learning_rate : float
        Of G's Adam, which forgets quickly (β₁ = 0.5), since f moves.
    longest : float or pair of float
        First steps of the ascent in units of ε, for the whole batch or spread over it.
    starts : tuple of float
        Shares of G's proposal at which the ascents of a batch begin, taken in turn.

    Notes
    -----
    Besides the gradient evaluations, which are counted, each batch costs one forward pass through f: G sees f(y).

    References
    ----------
    A. Raj, Y. Bresler and B. Li, "Improving robustness of deep-learning-based image reconstruction", ICML 2020,
    arXiv:2002.11821.
    """

    def __init__(
        self,
        network,
        radius,
        penalty=None,
        inner_steps=1,
        *,
        ascent_steps=0,
        parts=1,
        learning_rate=1e-3,
        longest=8.0,
        starts=(1.0,),
    ):
        super().__init__(radius, longest)
        if not isinstance(network, torch.nn.Module):
            raise TypeError(f"network must be a networks.Perturber, got {type(network).__name__}")
        self.network = network
        self.penalty = None if penalty is None else positive("penalty", penalty)
        self.inner_steps, self.parts = positive_int("inner_steps", inner_steps), positive_int("parts", parts)
        self.learning_rate = positive("learning_rate", learning_rate)
        self.starts = tuple(positive("starts", share) for share in starts)
        self.ascent_steps = 0 if ascent_steps == 0 else positive_int("ascent_steps", ascent_steps)
        self.optimiser = torch.optim.Adam(
            network.parameters(),
            lr=self.learning_rate,
            betas=(0.5, 0.99),
            capturable=next(network.parameters()).is_cuda,
        )

    def settings(self):
        """Return what makes this adversary another one than its like."""
        names = ("penalty", "inner_steps", "ascent_steps", "parts", "learning_rate")
        return (
            super().settings() | {name: getattr(self, name) for name in names} | {"starts": list(self.starts)}
        )

    def begin_epoch(self, seed):
        """Set the chance of the coming epoch, and let all processes begin it with the same G."""
        super().begin_epoch(seed)
        processes.share(self.network.parameters())

    def propose(self, f, y, x=None):
        """Return δ = G(y), on the sphere where there is no penalty; differentiable in the weights of G."""
        check_batch("y", y)
        with torch.no_grad():
            estimate = f(y)
        return self._bounded(self.network(y, estimate, x), y)

    def perturb(self, f, y, x):
        """Train G on this batch and return δ for the data y of the images x."""
        if self.ascent_steps == 0:
            parts = min(self.parts, len(y))
            for k in range(self.inner_steps):
                part = slice(k % parts, None, parts)
                self._climb(f, y[part], x[part])
            return self.propose(f, y, x).detach()
        proposed = self.propose(f, y, x)
        found = self.search(f, y, x, steps=self.ascent_steps, start=self._begin(proposed.detach()))
        self._imitate(f, y, x, proposed, found)
        return found

    def _begin(self, proposed):
        proposed = proposed.clone()  # what G is trained on stays as it is
        for k, share in enumerate(self.starts):
            proposed[k :: len(self.starts)] *= share
        return proposed

    def _climb(self, f, y, x):
        with torch.enable_grad():
            delta = self.propose(f, y, x)
            gain = (f(y + delta) - x).square().flatten(1).sum(1)
            if self.penalty is not None:
                beyond = delta.square().flatten(1).sum(1) - self.radii(y).square()
                gain = gain - self.penalty * beyond.clamp_min(0)
            self._step(-gain.mean())
        self.evaluations += len(y)

    def _imitate(self, f, y, x, proposed, found):
        for k in range(self.inner_steps):
            proposed = self.propose(f, y, x) if k else proposed
            alignment = cosine_similarity(proposed.flatten(1), found.flatten(1))
            # Without the error f(y) − x, the sign of the worst δ cannot be known: only its line is learnt.
            alignment = alignment if self.network.sees_error else alignment.abs()
            self._step((1 - alignment).mean())

    def _step(self, loss):
        # Not backward(): it would leave gradients in the parameters of f.
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        processes.average(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()

    def _bounded(self, delta, y):
        if self.penalty is not None:
            return delta
        scaled = delta / powers_of_two(delta)
        length = scaled.flatten(1).norm(dim=1).clamp_min(0.5)  # at least 1, where δ is not zero
        return scaled * spread(self.radii(y) / length, delta)

    def state(self):
        """Return what a checkpoint must keep, as a dict."""
        return super().state() | {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state):
        """Take over what ``state()`` gave."""
        super().load_state(state)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
