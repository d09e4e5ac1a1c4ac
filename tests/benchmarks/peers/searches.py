"""The searches of four packages for the worst δ, each with a number of gradient evaluations and a step in units of ε."""

import numpy as np
import torch

from ir_helpers import attacks
from peers.installed import foreign, load
from peers.watched import Watched

__all__ = ["SEARCHES", "Search"]


class Search:
    """How a package is run; subclasses give ``run``.

    ``steps`` are the step lengths to try, in units of ε: the package's own first, then those to tune over. ``prefix`` says that
    a search of N evaluations is the beginning of a longer one, so that one run serves all budgets.
    """

    steps, prefix = (None,), False

    def watched(self, problem):
        return Watched(problem)

    def __call__(self, problem, evaluations, step):
        """Return the ``Watched`` reconstruction after the search."""
        torch.manual_seed(0)
        np.random.seed(0)
        watched = self.watched(problem)
        with foreign():
            self.run(watched, evaluations, step)
        return watched


class Ours(Search):
    """``attacks.worst_case`` by this rule of steps."""

    def __init__(self, rule):
        self.rule = rule

    def run(self, watched, evaluations, step):
        p = watched.problem
        attacks.worst_case(watched.reconstruct, p.y, p.x, p.radius, steps=evaluations, rule=self.rule)


class TorchAttacks(Search):
    """Inputs in [0, 1]: moved and scaled."""

    def watched(self, problem):
        margin = 1.01 * problem.radius
        low = problem.y.min().item() - margin
        return Watched(problem, low=low, span=problem.y.max().item() + margin - low)


class TorchAttacksPGD(TorchAttacks):
    """``PGDL2``; its default step is ε/5."""

    steps, prefix = (0.2, 0.5, 1.0, 3.0), True

    def run(self, watched, evaluations, step):
        eps = watched.problem.radius / watched.span
        attack = load("torchattacks").PGDL2(watched, eps=eps, alpha=step * eps, steps=evaluations)
        attack(watched.inputs(), watched.labels())


class TorchAttacksAPGD(TorchAttacks):
    """``APGD``, which begins with steps of 2ε and halves them by itself; it evaluates one gradient more than its steps."""

    def run(self, watched, evaluations, step):
        eps = watched.problem.radius / watched.span
        attack = load("torchattacks").APGD(watched, norm="L2", eps=eps, steps=evaluations - 1)
        attack.perturb(watched.inputs(), watched.labels(), best_loss=True)


class Foolbox(Search):
    """``L2ProjectedGradientDescentAttack``, or the same with Adam; their default step is ε/40."""

    prefix = True

    def __init__(self, name, steps):
        self.name, self.steps = name, steps

    def run(self, watched, evaluations, step):
        foolbox = load("foolbox")
        bounds = (watched.problem.y.min().item() - 1e4, watched.problem.y.max().item() + 1e4)  # none
        model = foolbox.PyTorchModel(watched.eval(), bounds=bounds, device=watched.marker.device)
        attack = getattr(foolbox.attacks, self.name)(rel_stepsize=step, steps=evaluations)
        attack(model, watched.inputs(), watched.labels(), epsilons=watched.problem.radius)


class Art(Search):
    """``ProjectedGradientDescent`` or ``AutoProjectedGradientDescent`` with norm 2; the default step is ε/3."""

    def __init__(self, name, steps, prefix, options):
        self.name, self.steps, self.prefix, self.options = name, steps, prefix, options

    def run(self, watched, evaluations, step):
        evasion, classification = load("art.attacks.evasion"), load("art.estimators.classification")
        inputs, eps = watched.inputs(), watched.problem.radius
        estimator = classification.PyTorchClassifier(
            watched.eval(), torch.nn.CrossEntropyLoss(reduction="sum"), tuple(inputs.shape[1:]), 2,
            device_type="gpu" if inputs.is_cuda else "cpu",
        )  # fmt: skip
        attack = getattr(evasion, self.name)(
            estimator, norm=2, eps=eps, eps_step=step * eps, max_iter=evaluations, batch_size=len(inputs),
            verbose=False, **self.options,
        )  # fmt: skip
        labels = np.eye(2, dtype=np.float32)[np.zeros(len(inputs), dtype=int)]
        found = attack.generate(inputs.cpu().numpy(), labels)
        with torch.no_grad():
            watched(torch.from_numpy(found).to(inputs))


SEARCHES = {
    "ir_helpers": Ours("both"),
    "ir_helpers, long steps": Ours("long"),
    "ir_helpers, measured steps": Ours("measured"),
    "ir_helpers, race": Ours("race"),
    "torchattacks, PGDL2": TorchAttacksPGD(),
    "torchattacks, APGD": TorchAttacksAPGD(),
    "foolbox, L2 PGD": Foolbox("L2ProjectedGradientDescentAttack", (0.025, 0.5, 1.0, 3.0)),
    "foolbox, L2 Adam PGD": Foolbox("L2AdamProjectedGradientDescentAttack", (0.025, 0.1, 0.3)),
    "ART, PGD": Art("ProjectedGradientDescent", (1 / 3, 1.0, 3.0), True, {"num_random_init": 1}),
    "ART, APGD": Art("AutoProjectedGradientDescent", (1 / 3, 2.0), False, {"nb_random_init": 1}),
}
