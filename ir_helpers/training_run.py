"""What `training.fit` keeps of a run between two epochs, and one epoch of it."""

import itertools
import math
import os
import time

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from ir_helpers import checkpoints, processes
from ir_helpers.checks import NotFinite
from ir_helpers.files import DataError
from ir_helpers.parseval import Parseval
from ir_helpers.replay import Replayed

_LOOK = 20  # steps between looks at the losses: each look waits for the GPU
_WARM_UP = 0.05  # share of all steps in which the learning rate rises from zero
_EPOCH_SEED = 1_000_003  # apart from any seed a reader would choose next
_PROCESS_SEED = 10_007


class Diverged(RuntimeError):
    """The loss became NaN or infinite; the text names the epoch and step, and what to change."""


class Run:
    """A training run between two epochs; arguments are those of ``training.fit``, checked there."""

    def __init__(self, f, A, images, adversary, measure, augment, settings):
        self.f, self.images, self.adversary = f, images, adversary
        self.settings = settings | {
            "adversary": checkpoints.description(adversary),
            "images": checkpoints.summary(images),
        }
        self.measure, self.augment = measure or (lambda x, generator: A(x)), augment
        self.parseval = Parseval(*settings["parseval"]) if settings["parseval"] else None
        self.device = next(f.parameters()).device
        # On a GPU the step is replayed: the optimiser then reads its learning rate from a tensor, not from Python.
        on_gpu = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            f.parameters(),
            lr=torch.tensor(settings["learning_rate"], device=self.device)
            if on_gpu
            else settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            capturable=on_gpu,
        )
        if processes.size() > 1 and not getattr(adversary, "shareable", True):
            raise ValueError(
                f"adversary must keep nothing for each image where {processes.size()} processes train together, "
                f"got {type(adversary).__name__}: use PerSample, or one process"
            )
        replayable = adversary is None or getattr(adversary, "replayable", False)
        # DistributedDataParallel measures itself in its first ten steps, in a way that cannot be recorded.
        before = math.inf if not replayable else 3 if processes.size() == 1 else 11
        self.advance = Replayed(self._step, self.device, before=before)
        with self.advance.aside():  # gradients arrive on the stream of this moment: that of the steps
            self.trained = DistributedDataParallel(f) if processes.size() > 1 else f
        self._search_costs = {}  # by batch size
        self._searched_before = 0 if adversary is None else adversary.evaluations  # in another run
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
        batches = [processes.part(batch) for batch in order.split(self.settings["batch_size"])]
        batches = [batch for batch in batches if len(batch)]
        if processes.size() > 1:  # the order is common, the noise is not
            generator.manual_seed(seed + _PROCESS_SEED * (processes.rank() + 1))
        sums, recent = torch.zeros(3, device=self.device), []
        title = f"epoch {self.epoch + 1}/{self.settings['epochs']}"
        hidden = os.environ.get("TQDM_DISABLE") == "1" or processes.rank() > 0
        bar = tqdm(batches, desc=title, leave=False, disable=hidden)
        for step, chosen in enumerate(bar):
            try:
                recent.append(self._train_on(chosen, step, generator))
            except NotFinite:  # a search that meets NaN stops before the loss is known
                self._stop_if_diverged([found.tolist() for found in recent], step - 1)
                self._diverged(math.nan, math.nan, step)
            sums += recent[-1] * len(chosen) / sum(map(len, batches))
            if len(recent) == _LOOK or step == len(batches) - 1:
                self._look(torch.stack(recent).tolist(), step, bar)
                recent = []
        processes.average([sums])
        self._note(sums.tolist(), time.perf_counter() - begin)

    def _train_on(self, chosen, step, generator):
        x = self._views(self.images[chosen.to(self.images.device)].to(self.device), generator)
        self._set_rate(self.settings["learning_rate"] * self._schedule(step))
        if self.adversary is None:
            return self.advance(x, self.measure(x, generator))
        self.adversary.index = chosen
        before = self.adversary.evaluations
        found = self.advance(x, self.measure(x, generator))
        if self.advance.replayed:  # no Python ran that could have counted
            self.adversary.evaluations = before + self._search_costs[len(chosen)]
        self._search_costs[len(chosen)] = self.adversary.evaluations - before
        return found

    def _views(self, x, generator):
        # Before the step and not in it: its chance comes from the CPU, which a replay would not ask again.
        if self.augment is None:
            return x
        views = self.augment(x, generator)
        if views.shape != x.shape or views.dtype != x.dtype or views.device != x.device:
            raise ValueError(
                f"augment must return images of shape {tuple(x.shape)}, {x.dtype}, on {x.device}; it gave "
                f"{tuple(views.shape)}, {views.dtype}, on {views.device}"
            )
        return views

    def _step(self, x, y):
        """Move the parameters once; return the means of ‖f(y) − x‖², ‖f(y + δ) − x‖² and ‖δ‖ over the batch."""
        data, target, norm = y, x, torch.zeros((), device=self.device)
        if self.adversary is not None:
            self.f.eval()
            with self._precision():
                delta = self.adversary.perturb(self.f, y, x)
            data, target = torch.cat([y, y + delta]), torch.cat([x, x])
            norm = delta.flatten(1).norm(dim=1).mean()
        self.f.train()
        with self._precision():
            estimate = self.trained(data)
        if estimate.shape != target.shape:
            raise ValueError(
                f"f must give images of shape {tuple(target.shape)}, it gave {tuple(estimate.shape)}"
            )
        errors = (estimate - target).square().flatten(1).sum(1)
        clean, attacked = errors[: len(x)].mean(), errors[len(x) :].sum() / len(x)
        self.optimiser.zero_grad(set_to_none=True)
        (clean + self.settings["lam"] * attacked).backward()
        self.optimiser.step()
        if self.parseval is not None:
            # As strong as the optimiser at this moment: else the last steps would only undo what training found.
            self.parseval.retract(
                self.f, self.optimiser.param_groups[0]["lr"] / self.settings["learning_rate"]
            )
        return torch.stack([clean, attacked, norm]).detach()

    def _set_rate(self, value):
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def _precision(self):
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings["mixed_precision"], cache_enabled=False
        )

    def _schedule(self, step):
        """Return the factor of the learning rate: up along a line, then down along a cosine."""
        position = (self.epoch + (step + 0.5) / self.steps_per_epoch) / self.settings["epochs"]
        return min(1.0, position / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * position))

    def _look(self, recent, step, bar):
        self._stop_if_diverged(recent, step)
        bar.set_postfix(dict(zip(("clean", "attacked", "delta"), recent[-1], strict=True)))

    def _stop_if_diverged(self, recent, step):
        """Stop at the first loss that is not finite, of those up to this step."""
        for earlier, numbers in zip(itertools.count(step - len(recent) + 1), recent, strict=False):
            if not all(map(math.isfinite, numbers)):
                self._diverged(*numbers[:2], earlier)

    def _diverged(self, clean, attacked, step):
        raise Diverged(
            f"the loss is {clean} (attacked: {attacked}) in step {step + 1} of epoch {self.epoch + 1}: "
            f"lower learning_rate={self.settings['learning_rate']:g} or lam={self.settings['lam']:g}"
        )

    def _note(self, means, seconds):
        before = self.history[-1]["seconds"] if self.history else 0.0
        searches = 0.0 if self.adversary is None else self._searches() / len(self.images)
        passes = 1 if self.adversary is None else 2
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "loss": means[0],
                "adversarial_loss": means[1] if self.adversary is not None else math.nan,
                "perturbation": means[2],
                "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
                "seconds": before + seconds,
                "gradient_evaluations": passes * (self.epoch + 1) + searches,
            }
        )

    def _searches(self):
        return processes.size() * (self.adversary.evaluations - self._searched_before)

    def save(self, checkpoint):
        """Write the whole state to the file ``checkpoint``."""
        optimiser = self.optimiser.state_dict()
        for group in optimiser["param_groups"]:
            group["lr"] = float(group["lr"])
        state = {
            "settings": self.settings,
            "network": self.f.state_dict(),
            "optimiser": optimiser,
            "adversary": {} if self.adversary is None else self.adversary.state(),
            "searched_before": self._searched_before,
            "history": self.history,
        }
        if processes.rank() == 0:
            checkpoints.save(checkpoint, state)
        processes.wait()

    def take_over(self, checkpoint):
        """Go on from the state in the file ``checkpoint``, if it is there."""
        state = checkpoints.load(checkpoint)
        if state is None:
            return
        try:
            for name, ours in self.settings.items():
                theirs = state["settings"].get(name)
                if theirs != ours:
                    raise DataError(
                        f"the checkpoint {checkpoint} is of a run with {name}={theirs!r}, not {ours!r}: "
                        "pass the same settings, or another file"
                    )
            self.f.load_state_dict(state["network"])
            if self.adversary is not None:
                self.adversary.load_state(state["adversary"])
            rates = [group["lr"] for group in self.optimiser.param_groups]
            self.optimiser.load_state_dict(state["optimiser"])
            self.history, self._searched_before = list(state["history"]), state["searched_before"]
        except DataError:
            raise
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the checkpoint {checkpoint} is of another network or adversary: {error}"
            ) from None
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate  # set before every step; on a GPU a tensor
