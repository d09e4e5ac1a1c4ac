"""What `training.fit` keeps of a run between two epochs, and one epoch of it."""

import itertools
import math
import time

import torch
from tqdm.auto import tqdm

from ir_helpers import checkpoints
from ir_helpers.parseval import Parseval
from ir_helpers.store import DataError

_LOOK = 20  # steps between looks at the losses: each look waits for the GPU
_WARM_UP = 0.05  # share of all steps in which the learning rate rises from zero
_EPOCH_SEED = 1_000_003  # apart from any seed a reader would choose next


class Diverged(RuntimeError):
    """The loss became NaN or infinite; the text names the epoch and step, and what to change."""


class Run:
    """A training run between two epochs; arguments are those of ``training.fit``, checked there."""

    def __init__(self, f, A, images, adversary, measure, settings):
        self.f, self.images, self.adversary, self.settings = f, images, adversary, settings
        self.measure = measure or (lambda x, generator: A(x))
        self.parseval = Parseval(*settings["parseval"]) if settings["parseval"] else None
        self.optimiser = torch.optim.AdamW(
            f.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
        )
        self.device = next(f.parameters()).device
        self.steps_per_epoch = math.ceil(len(images) / settings["batch_size"])
        self.history = []

    @property
    def epoch(self):
        """Epochs that are finished."""
        return len(self.history)

    def train_one_epoch(self):
        """Go once through all images and add a row to the history."""
        begin = time.perf_counter()
        # All chance of an epoch comes from its own seed, so a resumed run needs no state of generators.
        seed = self.settings["seed"] + _EPOCH_SEED * self.epoch
        generator = torch.Generator().manual_seed(seed)
        if self.adversary is not None:
            self.adversary.begin_epoch(seed)
        order = torch.randperm(len(self.images), generator=generator)
        batches = order.split(self.settings["batch_size"])
        sums, recent = torch.zeros(3, device=self.device), []
        bar = tqdm(batches, desc=f"epoch {self.epoch + 1}/{self.settings['epochs']}", leave=False)
        for step, chosen in enumerate(bar):
            x = self.images[chosen.to(self.images.device)].to(self.device)
            if self.adversary is not None:
                self.adversary.index = chosen
            recent.append(self._step(step, x, generator))
            sums += recent[-1] * len(x) / len(order)
            if len(recent) == _LOOK or step == len(batches) - 1:
                self._look(torch.stack(recent).tolist(), step, bar)
                recent = []
        self._note(sums.tolist(), time.perf_counter() - begin)

    def _step(self, step, x, generator):
        """Move the parameters once; return the means of ‖f(y) − x‖², ‖f(y + δ) − x‖² and ‖δ‖ over the batch."""
        y = self.measure(x, generator)
        data, target, norm = y, x, torch.zeros((), device=self.device)
        if self.adversary is not None:
            self.f.eval()
            with self._precision():
                delta = self.adversary.perturb(self.f, y, x)
            data, target = torch.cat([y, y + delta]), torch.cat([x, x])
            norm = delta.flatten(1).norm(dim=1).mean()
        self.f.train()
        with self._precision():
            errors = (self.f(data) - target).square().flatten(1).sum(1)
        clean, attacked = errors[: len(x)].mean(), errors[len(x) :].sum() / len(x)
        self._descend(clean + self.settings["lam"] * attacked, step)
        return torch.stack([clean, attacked, norm]).detach()

    def _descend(self, loss, step):
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings["learning_rate"] * self._schedule(step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.parseval is not None:
            self.parseval.retract(self.f)

    def _precision(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings["mixed_precision"])

    def _schedule(self, step):
        """Return the factor of the learning rate: up along a line, then down along a cosine."""
        position = (self.epoch + (step + 1) / self.steps_per_epoch) / self.settings["epochs"]
        return min(1.0, position / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * position))

    def _look(self, recent, step, bar):
        """Stop at the first loss that is not finite; show the last ones."""
        for earlier, numbers in zip(itertools.count(step - len(recent) + 1), recent, strict=False):
            if not all(map(math.isfinite, numbers)):
                raise Diverged(
                    f"the loss is {numbers[0]} (attacked: {numbers[1]}) in step {earlier + 1} of epoch {self.epoch + 1}: "
                    f"lower learning_rate={self.settings['learning_rate']:g} or lam={self.settings['lam']:g}"
                )
        bar.set_postfix(clean=recent[-1][0], attacked=recent[-1][1], delta=recent[-1][2])

    def _note(self, means, seconds):
        before = self.history[-1]["seconds"] if self.history else 0.0
        searches = 0.0 if self.adversary is None else self.adversary.evaluations / len(self.images)
        passes = 1 if self.adversary is None else 2
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "loss": means[0],
                "adversarial_loss": means[1],
                "perturbation": means[2],
                "learning_rate": self.optimiser.param_groups[0]["lr"],
                "seconds": before + seconds,
                "gradient_evaluations": passes * (self.epoch + 1) + searches,
            }
        )

    def save(self, checkpoint):
        """Write the whole state to the file ``checkpoint``."""
        state = {
            "settings": self.settings,
            "network": self.f.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": {} if self.adversary is None else self.adversary.state(),
            "history": self.history,
        }
        checkpoints.save(checkpoint, state)

    def take_over(self, checkpoint):
        """Go on from the state in the file ``checkpoint``, if it is there."""
        state = checkpoints.load(checkpoint)
        if state is None:
            return
        for name, ours in self.settings.items():
            theirs = state["settings"].get(name)
            if theirs != ours:
                raise DataError(
                    f"the checkpoint {checkpoint} is of a run with {name}={theirs!r}, not {ours!r}: "
                    "pass the same settings, or another file"
                )
        try:
            self.f.load_state_dict(state["network"])
            if self.adversary is not None:
                self.adversary.load_state(state["adversary"])
        except (RuntimeError, KeyError) as error:
            raise DataError(
                f"the checkpoint {checkpoint} is of another network or adversary: {error}"
            ) from None
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = state["history"]
