"""Learned maps y ↦ x̂, y ↦ δ, and the trained ones that come with the book."""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError

from ir_helpers import operators, store
from ir_helpers.reconstructors import LinearReconstructor, Perturber, Reconstructor
from ir_helpers.unet import UNet, conv_norm

__all__ = [
    "LinearReconstructor",
    "Perturber",
    "Reconstructor",
    "UNet",
    "conv_norm",
    "list_pretrained",
    "make_operator",
    "pretrained",
    "save",
]

_OPERATORS = {"gaussian": operators.gaussian, "dct_block": operators.dct_block}
_OPERATORS |= {"parallel_beam": operators.parallel_beam, "with_spectrum": operators.with_spectrum}
_PROBES = 8  # numbers that tell two operators apart
_SAME = 1e-4  # rounding differs between machines by 1e-6, another seed or angle by 1e-2


def save(name, f, operator, **notes):
    """Write a `Reconstructor` over a `UNet` as `data/weights/<name>.safetensors`, with all that is needed to load it.

    Parameters
    ----------
    name : str or pathlib.Path
        As in ``store.save_weights``.
    f : Reconstructor
    operator : dict
        How to make f.operator: ``{"factory": "gaussian", ...}`` with the arguments of that function of ``operators``.
    notes : str
        What else to keep: recipe, seed, versions, final losses.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If ``operator`` does not describe f.operator, or a note has a name that the file uses itself.
    TypeError
        If f is another kind of network.
    """
    if not isinstance(f, Reconstructor) or not isinstance(f.network, UNet):
        raise TypeError(f"f must be a Reconstructor over a UNet, got {type(f).__name__}")
    fingerprint = _fingerprint(make_operator(operator))
    gap = _gap(_fingerprint(f.operator.to("cpu").to(torch.float32)), fingerprint)
    if not gap <= _SAME:
        raise ValueError(f"operator must describe f.operator, but {operator!r} differs from it by {gap:.1e}")
    metadata = {
        "operator": json.dumps(operator),
        "fingerprint": json.dumps(fingerprint),
        "network": json.dumps(f.network.settings),
        "start": f.start,
    }
    if hidden := sorted(metadata.keys() & notes.keys()):
        raise ValueError(f"notes must not be called {hidden}: the file uses these names itself")
    return store.save_weights(name, f.state_dict(), metadata | notes)


def pretrained(name):
    """Return a trained reconstruction network y ↦ x̂ in evaluation mode; ``f.operator`` is its A.

    Its weights are stored in half precision and computed with in single. ``f.notes`` is a dict of what is written in the
    file: recipe, seed, versions, final losses. The parameters are frozen; ``f.requires_grad_()`` frees them.

    Parameters
    ----------
    name : str or pathlib.Path
        Such as ``"mnist-gaussian/min-max"``, see ``list_pretrained``; a Path is a file of your own, made by ``save``.

    Raises
    ------
    DataError
        If there is no such file, it was altered, or the operator made here is not the one it was trained with.
    """
    if isinstance(name, str) and name not in list_pretrained():
        raise store.DataError(f"there is no network {name!r}; list_pretrained() gives {list_pretrained()}")
    try:
        tensors, notes = store.load_weights(name)
        f = _rebuild(tensors, notes)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, store.DataError) or not isinstance(name, (str, Path)):
            raise
        raise store.DataError(f"{name} is not a network that networks.save wrote: {error}") from error
    f.notes = notes
    return f.eval().requires_grad_(False)


def _rebuild(tensors, notes):
    A = _operator(notes["operator"])
    gap = _gap(_fingerprint(A), json.loads(notes["fingerprint"]))
    if not gap <= _SAME:
        raise ValueError(f"it belongs to another operator than {A}, whose fingerprint differs by {gap:.1e}")
    f = Reconstructor(A, UNet(**json.loads(notes["network"])), start=notes["start"])
    f.load_state_dict(tensors)
    if bad := [key for key, values in tensors.items() if not torch.isfinite(values).all()]:
        raise ValueError(f"the tensors {bad} have NaN or infinite values")
    return f


@functools.lru_cache(maxsize=4)
def _operator(description):
    # The networks of an experiment share one operator: that of a CT scan takes seconds and half a gigabyte.
    return make_operator(json.loads(description))


def list_pretrained():
    """Return the names that ``pretrained`` knows, such as ``"mnist-gaussian/min-max"``, sorted."""
    files = store.manifest()["file"]
    ending = ".safetensors"
    return sorted(
        file[len("weights/") : -len(ending)]
        for file in files
        if file.startswith("weights/") and file.endswith(ending)
    )


def make_operator(operator):
    """Return the operator that a dict such as ``{"factory": "gaussian", ...}`` describes: arguments of ``operators``."""
    if not isinstance(operator, Mapping):
        raise TypeError(f"operator must be a dict with a factory and its arguments, got {operator!r}")
    arguments = dict(operator)
    factory = arguments.pop("factory", None)
    if factory not in _OPERATORS:
        raise ValueError(f"operator must name its factory, one of {sorted(_OPERATORS)}, got {operator!r}")
    return _OPERATORS[factory](**arguments)


def _fingerprint(A):
    """Return numbers that change with any entry of A: cosines of several frequencies through A, weighted by cosines."""
    n, m = math.prod(A.image_shape), math.prod(A.data_shape)
    pixels, rays = (torch.arange(count, dtype=torch.float64) for count in (n, m))
    waves = torch.stack([torch.cos((k + 1) * (pixels + 0.5) * math.pi / n) for k in range(_PROBES)])
    weights = torch.stack([torch.cos((k + 1) * (rays + 0.5) ** 2) for k in range(_PROBES)])
    y = A(waves.reshape(-1, *A.image_shape).to(A.dtype)).flatten(1).double()
    return [y.norm().item(), *((y * weights).sum(1) / y.norm()).tolist()]


def _gap(found, expected):
    gaps = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, expected, strict=True)]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.nan
