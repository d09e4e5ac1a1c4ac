"""Learned maps y ↦ x̂, y ↦ δ, and the trained ones that come with the book."""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch

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
# What a file may ask for, so that one from elsewhere cannot fill the memory: numbers in a matrix, sizes, levels.
_MOST_ENTRIES, _MOST_SIDE, _MOST_LEVELS = 2**28, 2**13, 12
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
    _check_operator(operator)  # what cannot be loaded is not saved
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
        If there is no such file, it was altered, it asks for more memory than any network of the book could need, or the
        operator made here is not the one it was trained with.
    """
    if isinstance(name, str) and name not in list_pretrained():
        raise store.DataError(f"there is no network {name!r}; list_pretrained() gives {list_pretrained()}")
    try:
        tensors, notes = store.load_weights(name)
        f = _rebuild(tensors, notes)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, store.DataError) or not isinstance(name, (str, Path)):
            raise
        raise store.DataError(f"{name} is not a network that networks.save wrote: {error}") from error
    f.notes = notes
    # With the channels of a pixel side by side, convolutions on a CPU take a fifth to a third less time.
    return f.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _rebuild(tensors, notes):
    settings = json.loads(notes["network"])
    _check_network(settings, tensors)
    _check_operator(json.loads(notes["operator"]))
    A = _operator(notes["operator"])
    gap = _gap(_fingerprint(A), json.loads(notes["fingerprint"]))
    if not gap <= _SAME:
        raise ValueError(f"it belongs to another operator than {A}, whose fingerprint differs by {gap:.1e}")
    f = Reconstructor(A, UNet(**settings), start=notes["start"])
    f.load_state_dict(tensors)
    if bad := [key for key, values in tensors.items() if not torch.isfinite(values).all()]:
        raise ValueError(f"the tensors {bad} have NaN or infinite values")
    return f


def _check_network(settings, tensors):
    """Raise unless the tensors are those of a UNet with these settings, before memory is taken for it."""
    if not isinstance(settings, dict):
        raise TypeError(f"network must be a dict of the settings of a UNet, got {str(settings)[:200]}")
    if not settings.get("levels", 1) <= _MOST_LEVELS or not settings.get("fold", 1) <= _MOST_SIDE:
        raise ValueError(f"network has more than {_MOST_LEVELS} levels, or an absurd fold: {settings}")
    with torch.device("meta"):  # shapes only
        shapes = {f"network.{key}": value.shape for key, value in UNet(**settings).state_dict().items()}
    wrong = {key for key in shapes.keys() | tensors.keys() if key not in tensors or key not in shapes}
    wrong = wrong or {key for key in shapes if shapes[key] != tensors[key].shape}
    if wrong:
        raise ValueError(f"its tensors {sorted(wrong)[:3]} do not fit its network, {settings}")


def _check_operator(operator):
    """Raise if making the operator would take more memory or time than any of the book's."""
    if not isinstance(operator, Mapping):
        raise TypeError(
            f"operator must be a dict with a factory and its arguments, got {str(operator)[:200]}"
        )
    sizes = [operator.get(key, 1) for key in ("num_measurements", "image_size", "num_angles")]
    pixels = [math.prod(operator.get("image_shape", ())), operator.get("image_size", 1) ** 2]
    rows = [operator.get("num_measurements", 1), len(operator.get("singular_values", "1"))]
    rows += [operator.get("num_angles", 1)]
    most = (
        _MOST_ENTRIES // 4 if operator.get("backend") == "matrix" else _MOST_ENTRIES
    )  # stored twice, with indices
    if max(sizes + rows) > _MOST_SIDE or max(pixels) * max(rows) > most:
        raise ValueError(f"operator is larger than any of the book: {str(operator)[:200]}")


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
