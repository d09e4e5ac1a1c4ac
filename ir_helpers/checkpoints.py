"""The state of a training run on disk: written in one step, checked when read, with the one before it kept.

A checkpoint is a safetensors file: tensors under paths such as ``network/last.weight``, everything else as JSON, and a
hash over all of it. Nothing is unpickled.
"""

import hashlib
import json
import os
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ir_helpers.files import DataError, write

__all__ = ["description", "load", "previous", "save", "summary"]

_PART = 32  # images
# The last two: a file may have the right hash and yet no state, when it was made to deceive.
_DAMAGE = (SafetensorError, ValueError, KeyError, OSError, TypeError, RecursionError)


def previous(path):
    """Return where the checkpoint before the one at ``path`` is kept."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path, state):
    """Write ``state`` to ``path``; what was there is kept beside it, see ``previous``.

    At every moment one of the two files is whole: the new one is written under another name, and only then renamed.

    Parameters
    ----------
    path : str or pathlib.Path
    state : dict
        Of str to tensors, numbers, text, lists, or dicts of these.

    Raises
    ------
    DataError
        If the file cannot be written, on a full disk for instance; the states kept before are still there.
    """
    path = Path(path)
    rest = _split(state, "", found := {})
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}
    text = json.dumps(rest)

    def make(part):
        save_file(tensors, part, metadata={"rest": text, "sha256": _digest(tensors, text)})

    def keep_the_old_one():
        if _is_whole(path):  # a damaged one must not take the place of the one before it
            os.replace(path, previous(path))

    write(
        path,
        make,
        before=keep_the_old_one,
        failures=(OSError, SafetensorError),
        advice="make room or the folder writable, and go on from there with training.resume",
    )


def load(path):
    """Return the state kept at ``path``, or None where no checkpoint was ever written.

    A damaged file is named in a warning, and the one before it is used.

    Raises
    ------
    DataError
        If a checkpoint is there, but neither it nor the one before it can be read.
    """
    damaged = []
    for candidate in (Path(path), previous(path)):
        if not candidate.exists():
            continue
        try:
            state = _read(candidate)
        except PermissionError as error:  # whole, perhaps: no reason to go back an epoch
            raise DataError(f"the checkpoint {candidate} may not be read: {error}") from error
        except _DAMAGE as error:
            damaged.append(f"{candidate} ({error})")
            continue
        if damaged:
            warnings.warn(f"damaged checkpoint {damaged[0]}; going on from {candidate}", stacklevel=2)
        return state
    if damaged:
        raise DataError(f"no checkpoint can be read: {', '.join(damaged)}; delete the files to start anew")
    return None


def description(adversary):
    """Return what tells adversaries apart, for a checkpoint."""
    if adversary is None:
        return None
    return adversary.settings() if hasattr(adversary, "settings") else {"kind": type(adversary).__name__}


def summary(images):
    """Return what tells sets of images apart, for a checkpoint: cheap, and the same on all devices but for rounding."""
    # In parts: a sum in another dtype copies its argument, and the images may be larger than the memory.
    total = sum(part.sum(dtype=torch.float64).item() for part in images.split(_PART))
    return [len(images), round(total / images.numel(), 6)]


def _is_whole(path):
    try:
        return path.exists() and _read(path) is not None
    except _DAMAGE:
        return False


def _read(path):
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if not {"rest", "sha256"} & metadata.keys():
        raise DataError(f"{path} is not a checkpoint of training.fit: pass another path")
    if metadata["sha256"] != _digest(tensors, metadata["rest"]):
        raise ValueError("its content does not have the hash that it was written with")
    return _join(json.loads(metadata["rest"]), tensors)


def _split(value, prefix, tensors):
    """Move the tensors of nested dicts into ``tensors``, leaving their place marked."""
    if isinstance(value, torch.Tensor):
        key = f"{len(tensors)}{prefix}"  # numbered: different paths can read the same
        tensors[key] = value
        return {"tensor": key}
    if isinstance(value, dict):
        # Keys of optimisers are numbers: each pair keeps its key's type.
        return {"pairs": [[key, _split(item, f"{prefix}/{key}", tensors)] for key, item in value.items()]}
    return {"value": value}


def _join(value, tensors):
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "pairs" in value:
        return {key: _join(item, tensors) for key, item in value["pairs"]}
    return value["value"]


def _digest(tensors, text):
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
