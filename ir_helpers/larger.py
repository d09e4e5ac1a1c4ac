"""The larger image sets, from the folder that the environment variable IR_DATA_DIR names, and sets larger than the memory."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch

from ir_helpers.checks import check_path
from ir_helpers.files import DataError, read_arrays

__all__ = ["on_disk", "read_larger"]

_WHERE_FROM = {
    "faces_congress64.npz": (
        "700 portraits of the US Government Publishing Office, public domain, from the GitHub repository "
        "Hainish/congress-images-225x275 at 20531e98, cropped to the face and resized to 64x64; arrays "
        "images (N, 64, 64, 3) uint8 and bioguide (N,)"
    ),
    "ct_tcia256.npz": (
        "376 chest CT slices of 46 patients of The Cancer Imaging Archive (TCGA-LUAD, TCGA-LUSC, "
        "ACRIN-FLT-Breast, Lung-Fused-CT-Pathology, COVID-19-NY-SBU, RIDER Pilot); get series with the PyPI "
        "package idc-index; arrays hu (N, 256, 256) int16 in Hounsfield units and patient (N,)"
    ),
}
_LAYOUTS = {
    "mnist.npz": {
        "x_train": ("uint8", (None, 28, 28)),
        "y_train": ("uint8", (None,)),
        "x_test": ("uint8", (None, 28, 28)),
        "y_test": ("uint8", (None,)),
    },
    "faces_congress64.npz": {"images": ("uint8", (None, 64, 64, 3)), "bioguide": ("text", (None,))},
    "ct_tcia256.npz": {"hu": ("int16", (None, 256, 256)), "patient": ("text", (None,))},
}


def read_larger(name, otherwise=None):
    """Read the arrays of `name` from the folder IR_DATA_DIR; if it is not there, call `otherwise`.

    Raises
    ------
    DataError
        If the file is broken or of another layout, or it is missing and there is nothing to call: the text says how to
        get it.
    """
    folder = os.environ.get("IR_DATA_DIR")
    if folder and os.path.lexists(path := Path(folder) / name):
        return read_arrays(path, _LAYOUTS[name])
    if otherwise is not None:
        return otherwise()
    state = f"IR_DATA_DIR is {folder!r}, without {name}" if folder else "IR_DATA_DIR is not set"
    raise DataError(
        f"full=True needs {name} ({_WHERE_FROM[name]}). {state}: put the file in a folder and set "
        "IR_DATA_DIR to it, or use full=False. More in data/README.md."
    )


def on_disk(path):
    """Return the images of a NumPy file as a tensor that stays on the disk; ``training.fit`` reads each batch when it comes.

    Such a file is filled in parts with ``numpy.lib.format.open_memmap(path, "w+", "float32", (N, C, H, W))``.

    Parameters
    ----------
    path : str or pathlib.Path
        An array (N, C, H, W), float32, in the format .npy.

    Returns
    -------
    torch.Tensor
        The same numbers, mapped into memory and not to be written to. Whatever needs all of them at once, such as
        ``images / 2`` or ``images[order]``, reads them all.

    Raises
    ------
    DataError
        If there is no such file, or it holds something else.
    TypeError
        If ``path`` is no path.
    """
    check_path("path", path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"could not read {path}: {error}. Pass a file that numpy.save wrote") from error
    if array.dtype != np.float32 or array.ndim != 4 or 0 in array.shape:
        raise DataError(
            f"{path} must hold images (N, C, H, W) as float32, got {array.dtype} of shape {array.shape}"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
