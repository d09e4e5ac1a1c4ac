"""Files that are written whole or not at all, and NumPy archives that are read without trust. Needs no PyTorch."""

import contextlib
import math
import os
import time
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["DataError", "read_arrays", "write", "write_table"]

_LEFT_BEHIND = 600  # seconds after which an unfinished file belongs to a process that was killed
_LARGEST = (
    2**31
)  # bytes of all arrays of an archive: the largest set of the book has 55 MB, a zip bomb any number
_KINDS = "biufcSU"  # numbers, truth values and text; all else may hold Python objects


class DataError(RuntimeError):
    """A data file is missing, altered, unlisted or could not be fetched; the text says what to do."""


def write(path, make, *, before=None, failures=(OSError,), advice="free some space, or pass another path"):
    """Write the file ``path`` in one step: it is made under another name, brought to the disk, and only then renamed.

    Parameters
    ----------
    path : str or pathlib.Path
        Its folder is made if it is not there.
    make : callable
        Writes the file, given the pathlib.Path to write to.
    before : callable, optional
        Called when the new file is on the disk and the old one still in place.
    failures : tuple of type
        Exceptions of ``make`` that tell of a disk that is full or not writable.
    advice : str
        What the reader can do then.

    Returns
    -------
    pathlib.Path
        ``path``.

    Raises
    ------
    DataError
        If the file cannot be written. What was at ``path`` is still there.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        make(part)
        with open(part, "r+b") as file:
            os.fsync(file.fileno())  # on the disk before the name points to it
        if before is not None:
            before()
        os.replace(part, path)
    except failures as error:
        raise DataError(
            f"could not write {path}: {error}. What was there before is kept: {advice}"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to show
            part.unlink(missing_ok=True)
    return path


def write_table(path, table, float_format):
    """Write a DataFrame as CSV in one step, the same bytes on every system; see ``write``."""
    return write(
        path, lambda part: table.to_csv(part, index=False, float_format=float_format, lineterminator="\n")
    )


def _sweep(path):
    """Remove what killed processes left of the file; one that is being written now has changed a moment ago."""
    for part in path.parent.iterdir():
        if part.name.startswith(f".{path.name}.") and part.name.endswith(".part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > _LEFT_BEHIND:
                    part.unlink()


def read_arrays(path, layout=None):
    """Read an ``.npz`` file of any origin into a dict of NumPy arrays; nothing in it is unpickled.

    Sizes are compared before memory is taken, so a file cannot claim more than it holds, nor unpack to more than 2 GiB.

    Parameters
    ----------
    path : str or pathlib.Path
    layout : dict, optional
        By array name ``(dtype, shape)``, where the dtype "text" allows any text and the first size of the shape, None, is
        common to all arrays with the same last part of their name behind an underscore, as in ``x_test`` and ``y_test``.

    Raises
    ------
    DataError
        If the file is broken, holds other things than numbers and text, or has another layout.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise DataError(f"{path} is no regular file: pass an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members)
            arrays = {member.filename[: -len(".npy")]: _read(archive, member) for member in members}
        _check_layout(arrays, layout or {})
    except (
        Exception
    ) as error:  # foreign bytes fail in any way: BadZipFile, zlib.error, TokenError, MemoryError
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise DataError(
            f"{path} cannot be used as an .npz file of arrays: {reason}. Fetch or make it again"
        ) from error
    return arrays


def _check_members(members):
    names = [member.orig_filename for member in members]
    if len(set(names)) != len(names):
        raise ValueError("two of its members have one name")
    for member, name in zip(members, names, strict=True):
        if not name.endswith(".npy") or any(sign in name for sign in '/\\:\0"') or name.startswith(".."):
            raise ValueError(f"its member {name[:60]!r} is not the plain name of an array")
        if member.flag_bits & 1:
            raise ValueError(f"its member {name!r} is encrypted")
    if (total := sum(member.file_size for member in members)) > _LARGEST:
        raise ValueError(f"it unpacks to {total:.2g} bytes, more than {_LARGEST:.2g}")


def _read(archive, member):
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"its member {member.filename!r} has version {version}, which only records need")
        shape, in_columns, dtype = readers[version](stream)
        if dtype.kind not in _KINDS or dtype.itemsize == 0:
            raise ValueError(f"its member {member.filename!r} holds Python objects or records ({dtype})")
        announced, there = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
        if announced != there or any(size < 0 for size in shape):
            raise ValueError(
                f"its member {member.filename!r} announces {shape} of {dtype}, but has {there} bytes"
            )
        content = bytearray(
            stream.read()
        )  # checked against its CRC; a bytearray, since arrays may be changed
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")


def _check_layout(arrays, layout):
    lengths = {}
    for name, (dtype, shape) in layout.items():
        if name not in arrays:
            raise ValueError(f"it has no array {name!r}, only {sorted(arrays)[:9]}")
        array = arrays[name]
        fits = array.dtype.kind in "SU" if dtype == "text" else array.dtype == np.dtype(dtype)
        if not fits or array.ndim != len(shape) or array.shape[1:] != shape[1:]:
            raise ValueError(
                f"its array {name!r} must be {dtype} of shape {shape}, is {array.dtype} of {array.shape}"
            )
        group = name.rpartition("_")[2] if "_" in name else ""
        if lengths.setdefault(group, len(array)) != len(array) or len(array) == 0:
            raise ValueError(f"its array {name!r} has {len(array)} items, the others {lengths[group]}")
