"""The packages to compare with, imported only where they are used: one that is missing costs its own rows and no others."""

from contextlib import contextmanager
from importlib import import_module

import torch

__all__ = ["Unavailable", "foreign", "load"]

_KEPT = []  # libraries of operators, whose definitions end with them


class Unavailable(Exception):
    """A peer that cannot be measured, with the reason that the table prints."""


@contextmanager
def foreign():
    """Run a package's code: whatever it raises is a reason why it cannot be measured."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(f"{type(error).__name__}: {error}".split("\n")[0][:200]) from error


def load(name):
    """Import a package, or say why it cannot be had."""
    try:
        with foreign():
            if name == "deepinv":
                _let_torchvision_load()
            return import_module(name)
    except Unavailable as reason:
        raise Unavailable(f"{name} does not import: {reason}") from reason


def _let_torchvision_load():
    """Name two operators that deepinv's dependency torchvision looks up while it loads.

    Its wheels are compiled against PyTorch with CUDA. Beside a CPU-only PyTorch their compiled part does not load, and
    importing them fails. Tomography needs none of it.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
