"""One experiment of the book: an operator, images, a network, and the seven ways to train it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ir_helpers import adversaries, networks, training

__all__ = ["METHODS", "Experiment"]

METHODS = ("plain", "weight-decay", "parseval", "noise", "common", "min-max", "per-sample")


@dataclass(frozen=True)
class Experiment:
    """What the seven methods have in common, and the grid that each is tuned on.

    Attributes
    ----------
    name : str
        Of the recipe, and of the folder of its weights.
    operator : dict
        ``{"factory": "gaussian", ...}``, see ``networks.save``.
    network : dict
        Arguments of ``networks.UNet``.
    images : callable
        ``images(part)`` for the parts "train", "validation", "train+validation" and "test".
    grids : dict of str to tuple of dict
        By method: the settings to choose from. Each gives a ``learning_rate`` and, where the method has them,
        ``weight_decay``, ``beta`` (Parseval), ``radius`` and the other arguments of its adversary.
    epochs, tuning_epochs, batch_size : int
        Of every training, and of those that compare settings.
    radius : float
        ε at which the methods are compared.
    radii : tuple of float
        ε of the tables.
    start : str
        Of the ``networks.Reconstructor``.
    relative : bool
        Whether radii are shares of ‖y‖₂.
    measure : callable, optional
        ``measure(A, images, generator)`` gives noisy data; see ``training.fit`` for the generator. None: y = A x.
    augment : callable, optional
        See ``training.fit``.
    mixed_precision : bool
        See ``training.fit``.
    seeds : dict of str to int
        By method: how many networks are trained, with the seeds 0, 1, ...; three of a method that is not named.
    further : dict of str to callable
        Other images that the networks are measured on: by the ending of their table's name, a function that returns them.
    search, tuning_search : dict
        ``steps``, ``restarts`` and ``rule`` of every worst case in the tables, and of those that compare settings.
    slack : float
        A tuned method may have this many times the clean error of plain training.
    """

    name: str
    operator: Mapping
    network: Mapping
    images: Callable
    grids: Mapping
    epochs: int
    tuning_epochs: int
    batch_size: int
    radius: float
    radii: tuple
    start: str = "adjoint"
    relative: bool = False
    measure: Callable | None = None
    mixed_precision: bool = False
    augment: Callable | None = None
    seeds: Mapping = field(default_factory=dict)
    further: Mapping = field(default_factory=dict)
    search: Mapping = field(default_factory=lambda: {"steps": 100, "restarts": 3, "rule": "long"})
    tuning_search: Mapping = field(default_factory=lambda: {"steps": 50, "restarts": 1, "rule": "long"})
    slack: float = 1.2

    @property
    def methods(self):
        """The methods that are trained, in the order of ``METHODS``."""
        return tuple(method for method in METHODS if method in self.grids)

    @property
    def _layout(self):
        # A GPU multiplies matrices in half precision with the channels of a pixel side by side.
        return torch.channels_last if self.mixed_precision else torch.preserve_format

    def data(self, A, x, seed=0):
        """Return the data of test images x, the same on all machines: noise is drawn on the CPU."""
        if self.measure is None:
            return A(x)
        generator = torch.Generator().manual_seed(seed)
        return self.measure(A.to("cpu"), x.cpu(), generator).to(x.device)

    def adversary(self, method, settings, A):
        """Return what gives δ in training by this method; None for the methods that see clean data only."""
        radius = settings.get("radius", self.radius)
        radius = adversaries.relative(radius) if self.relative else radius
        if method == "noise":
            return adversaries.Noise(radius)
        if method == "common":
            return adversaries.Common(radius, step=settings["step"])
        if method == "per-sample":
            return adversaries.PerSample(radius, settings["steps"], settings.get("longest", 8.0))
        if method == "stored":
            return adversaries.Stored(radius, settings["steps"])
        if method == "min-max":
            return self._generator(radius, settings, A)
        return None

    def _generator(self, radius, settings, A):
        sees_error = settings.get("sees_error", True)
        network = networks.UNet(
            **{"in_channels": (3 + sees_error) * A.image_shape[0], "out_channels": A.image_shape[0]}
            | {"width": 32, "levels": 2, "fold": self.network.get("fold", 1)}
        )
        perturber = networks.Perturber(A, network, sees_error=sees_error, start=self.start)
        perturber = perturber.to(A.device, memory_format=self._layout)
        given = {
            key: settings[key]
            for key in ("penalty", "inner_steps", "ascent_steps", "parts", "longest", "starts")
            if key in settings
        }
        return adversaries.Generator(
            perturber, radius, learning_rate=settings.get("generator_rate", 1e-3), **given
        )

    def train(self, method, settings, *, images, seed=0, device="cpu", epochs=None, checkpoint=None):
        """Train a network on the images; return it, its history and its adversary."""
        torch.manual_seed(seed)
        A = networks.make_operator(self.operator).to(device)
        f = networks.Reconstructor(A, networks.UNet(**self.network), start=self.start)
        f = f.to(device, memory_format=self._layout)
        adversary = self.adversary(method, settings, A)
        beta = settings.get("beta")
        history = training.fit(
            f,
            A,
            images.to(device),
            adversary,
            epochs=epochs or self.epochs,
            batch_size=self.batch_size,
            learning_rate=settings["learning_rate"],
            lam=settings.get("lam", 1.0),
            weight_decay=settings.get("weight_decay", 0.0),
            parseval=training.Parseval(beta, settings.get("gain", 1.0)) if beta else None,
            measure=functools.partial(self.measure, A) if self.measure else None,
            mixed_precision=self.mixed_precision,
            augment=self.augment,
            checkpoint=checkpoint,
            seed=seed,
        )
        return f, history, adversary
