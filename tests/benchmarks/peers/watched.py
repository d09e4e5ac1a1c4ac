"""A reconstruction dressed as a classifier, which counts gradients and keeps the worst point that anyone shows it.

The attack packages are made for classifiers. Three things are adapted, none inside the packages:

* The loss. They raise the cross-entropy of a label. The dressed model answers with two logits, 0 and log(e / (e + s)), where
  e = ‖f(y + δ) − x‖² and s is the clean error. With the label 0 the cross-entropy is log(1 + e / (e + s)), which grows with e and
  has a gradient along e's. The packages normalise each sample's gradient, so they go the way that e itself would send them.
  The label 0 is always the likeliest, so no package stops early because a sample "is fooled".
* The range. Where a package cuts its input to [0, 1], data are moved and scaled so that the whole ball lies inside.
* The answer. Some return the last iterate, some nothing unless the label changes. Here each gets the worst point that it evaluated.
"""

import torch

from ir_helpers import robustness

__all__ = ["Watched"]


class _Tap(torch.autograd.Function):
    """The identity; its backward pass is one gradient evaluation."""

    @staticmethod
    def forward(ctx, data, watched):
        ctx.watched = watched
        return data.view_as(data)

    @staticmethod
    def backward(ctx, gradient):
        ctx.watched.evaluations += 1
        return gradient, None


class Watched(torch.nn.Module):
    """f as a classifier of inputs u = (y + δ − ``low``) / ``span``, of shape (B, C, H, W)."""

    def __init__(self, problem, *, low=0.0, span=1.0):
        super().__init__()
        self.problem, self.low, self.span = problem, low, span
        self.marker = torch.nn.Parameter(problem.y.new_zeros(1))  # tells packages the device
        self.evaluations, self.history = 0, {}
        with torch.no_grad():
            self.clean = self._errors(problem.y)
        self.worst, self.delta = self.clean.clone(), torch.zeros_like(problem.y)

    def inputs(self):
        """Return the clean inputs u."""
        y = self.problem.y
        return ((y - self.low) / self.span).reshape(len(y), 1, -1, y.shape[-1])

    def labels(self):
        return torch.zeros(len(self.problem.y), dtype=torch.long, device=self.problem.y.device)

    def forward(self, u):
        """Return the two logits of each sample, (B, 2)."""
        y = self.problem.y
        if len(u) != len(y):  # packages ask once how the output looks
            return u.new_zeros(len(u), 2)
        data = _Tap.apply(self.low + self.span * u, self).reshape(y.shape)
        error = self._errors(data)
        self._keep(error.detach(), (data - y).detach())
        logit = torch.log(error + 1e-12 * self.clean) - torch.log(error + self.clean)
        return torch.stack([torch.zeros_like(logit), logit], 1)

    def reconstruct(self, data):
        """Return f(data), for a search that takes a reconstruction as it is."""
        data = _Tap.apply(data, self)
        output = self.problem.reconstruct(data)
        self._keep(
            robustness.squared_error(output.detach(), self.problem.x), (data - self.problem.y).detach()
        )
        return output

    def after(self, evaluations):
        """Return the mean of the worst errors seen when at most so many gradients had been evaluated."""
        return self.history[max(count for count in self.history if count <= evaluations)]

    def _errors(self, data):
        return robustness.squared_error(self.problem.reconstruct(data), self.problem.x)

    def _keep(self, error, delta):
        allowed = self.problem.radius * (1 + 1e-4)  # float32, and a package's own rounding
        better = (error > self.worst) & (delta.flatten(1).norm(dim=1) <= allowed)
        self.worst = torch.where(better, error, self.worst)
        self.delta[better] = delta[better]
        self.history[self.evaluations] = self.worst.mean().item()
