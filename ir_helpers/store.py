"""Find, check and read the files under `data/`.

Every file there has a row in the manifest `data/README.md`. A file is compared with its hash before it is
read, so a chapter never shows numbers from a file that changed without notice.
"""

import hashlib
import json
import os
from itertools import takewhile
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ir_helpers.files import DataError, read_arrays, write

__all__ = [
    "DATA",
    "DataError",
    "budget",
    "checked",
    "load_arrays",
    "load_table",
    "load_weights",
    "manifest",
    "save_weights",
    "sha256",
]

DATA = Path(__file__).resolve().parent.parent / "data"
COLUMNS = ["file", "content", "source", "licence", "recipe", "seed", "sha256"]

# Files whose hash was right, as (path, size, time of change, hash): hashing once per process keeps chapters
# fast, and the size and time notice a file that a recipe rewrites in the meantime.
_checked = set()


def manifest():
    """Read the table of `data/README.md`.

    Returns
    -------
    pandas.DataFrame
        One row per file, all columns as text: `file` (path below `data/`), `content`, `source`, `licence`,
        `recipe`, `seed`, `sha256`.

    Raises
    ------
    DataError
        If there is no manifest, or its table has other columns.
    """
    path = DATA / "README.md"
    if not path.is_file():
        raise DataError(
            f"there is no manifest at {path}; install the package from a clone of the book: pip install -e ."
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    header = cells.index(COLUMNS) if COLUMNS in cells else None
    if header is None:
        raise DataError(f"{path} has no table with the columns {', '.join(COLUMNS)}")
    rows = list(takewhile(lambda row: len(row) > 1, cells[header + 2 :]))  # after the rule under the header
    if wrong := [row for row in rows if len(row) != len(COLUMNS)]:
        raise DataError(f"a row of the table in {path} has {len(wrong[0])} cells instead of 7: {wrong[0]}")
    frame = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("file", "recipe", "sha256"):
        frame[column] = frame[column].str.strip("`")
    return frame


def sha256(path):
    """Return the SHA-256 of the file at `path` in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(name):
    """Return the path of `data/<name>`, once its SHA-256 agrees with the manifest.

    Parameters
    ----------
    name : str
        Path below `data/` with forward slashes, such as ``"images/ct.npz"``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If the file is not listed, missing, altered, or a link to a place outside of `data/`. The text names the command
        that restores it.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as 'images/ct.npz', not {type(name).__name__}")
    if "\\" in name or Path(name).is_absolute() or name[1:2] == ":":
        raise DataError(
            f"{name!r} must be a path below data/ with forward slashes, such as 'images/ct.npz', on Windows too"
        )
    rows = manifest()
    rows = rows[rows["file"] == name]
    if rows.empty:
        raise DataError(f"data/{name} is not listed in data/README.md; add a row for it, or correct the name")
    recipe, expected = rows.iloc[0][["recipe", "sha256"]]
    recipe = recipe if recipe.startswith("make ") else f"python -m ir_helpers.recipes run {recipe}"
    restore = f"restore it with `git checkout -- data/{name}`, or make it with `{recipe}`"
    path = DATA / name
    if not path.is_file():
        raise DataError(f"data/{name} is missing; {restore}")
    if not path.resolve().is_relative_to(DATA.resolve()):  # another program could change it after the check
        raise DataError(f"data/{name} is a link to {path.resolve()}, outside of data/; {restore}")
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns, expected)
    if key not in _checked:
        found = sha256(path)
        if found != expected:
            raise DataError(
                f"data/{name} was altered (sha256 {found}, the manifest says {expected}); {restore}"
            )
        _checked.add(key)
    return path


def load_arrays(name):
    """Read a checked `.npz` file into a dict of NumPy arrays; pickled objects are refused."""
    return read_arrays(checked(name))


def load_table(name):
    """Read the checked table `data/results/<name>.csv` into a DataFrame."""
    return pd.read_csv(checked(f"results/{name}.csv"))


def _weights_path(name, find):
    if isinstance(name, Path):
        return name
    if not isinstance(name, str):
        raise TypeError(
            f"name must be a str (below data/weights) or a pathlib.Path, not {type(name).__name__}"
        )
    return find(f"weights/{name}.safetensors")


def load_weights(name):
    """Read the tensors of a network and what is written beside them.

    Parameters
    ----------
    name : str or pathlib.Path
        A str names `data/weights/<name>.safetensors`, which is checked against the manifest. A Path is a file
        of your own, read as it is.

    Returns
    -------
    tensors : dict of str to torch.Tensor
        On the CPU. Half-precision tensors come back as float32, all others as stored.
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no file at a Path.
    DataError
        If a file of `data/` is missing or altered, or the file is broken. Nothing in it is unpickled or run.
    """
    path = _weights_path(name, checked)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file: pass a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            stored = {key: file.get_tensor(key) for key in list(file.keys())}
            metadata = json.loads((file.metadata() or {}).get("notes", "{}"))
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError(f"its notes must map text to text, not {str(metadata)[:60]}")
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not a whole .safetensors file: {error}. Fetch or make it again"
        ) from error
    return {key: _as_kind(t, torch.float16, torch.float32) for key, t in stored.items()}, metadata


def save_weights(name, tensors, metadata):
    """Write tensors as safetensors: float32 as float16, all other types as they are.

    The file appears in one step, by renaming a finished one, so a run that is stopped leaves the old file
    whole.

    Parameters
    ----------
    name : str or pathlib.Path
        As in `load_weights`. A new file below `data/` also needs a row in the manifest.
    tensors : dict of str to torch.Tensor
    metadata : dict of str to str

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    ValueError
        If a float32 tensor has a value that float16 cannot hold (infinite, NaN, or beyond 65504 in size).
    TypeError
        If a key or value of `metadata` is not a str.
    DataError
        If the file cannot be written, on a full disk for instance.
    """
    if not all(isinstance(part, str) for pair in metadata.items() for part in pair):
        raise TypeError(f"metadata must map str to str, not {metadata!r}; write numbers as text")
    stored = {key: _as_kind(t.detach().cpu(), torch.float32, torch.float16) for key, t in tensors.items()}
    for key, tensor in stored.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"tensors[{key!r}] has values that float16 cannot hold; they must be below 65504 in size"
            )
    path = _weights_path(name, DATA.joinpath)
    # In one entry: safetensors writes several in an order that chance decides, and the file's hash with it.
    notes = {"notes": json.dumps(metadata, sort_keys=True)}
    return write(
        path, lambda part: save_file(stored, part, metadata=notes), failures=(OSError, SafetensorError)
    )


def _as_kind(tensor, source, target):
    # A contiguous copy: safetensors refuses views that share their memory.
    return tensor.to(target if tensor.dtype == source else tensor.dtype).clone(
        memory_format=torch.contiguous_format
    )


def budget(full, fast):
    """Return `fast` when the environment variable IR_FAST is ``"1"``, otherwise `full`.

    Tests set IR_FAST to run a chapter with fewer steps. The book is built without it.
    """
    return fast if os.environ.get("IR_FAST") == "1" else full
