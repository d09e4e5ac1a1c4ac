"""CT slices from a folder of published files, DICOM or LoDoPaB-CT; public as `datasets.ct_slices(source=...)`."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ir_helpers.dicom import SIZE, area_weights, read_dicom
from ir_helpers.files import DataError
from ir_helpers.splits import spread

__all__ = ["read_slices"]

# LoDoPaB-CT stores mu / mu_max, mu in 1/m, where mu = mu_water + (mu_water - mu_air) h / 1000 and mu_max is the mu of
# h = 3071 HU.
_LODOPAB_WIDTH, _MU_WATER, _MU_AIR, _MU_MAX = 362, 20.0, 0.02, 81.35858
_MOST = 1024  # slices in a file: those published have 128
_BLOCK = 32  # slices in memory at once, besides those returned: 34 MB in float64


def read_slices(source, split, count):
    """Return the slices of a split in Hounsfield units, see `datasets.ct_slices`.

    Parameters
    ----------
    source : str or pathlib.Path
        A folder, searched with all folders in it. Where it holds files `ground_truth_*.hdf5` they are read as
        LoDoPaB-CT, otherwise all files are tried as DICOM.
    split : {"train", "test"}
    count : int or None
        Take this many, spread evenly over the split; None takes all.

    Returns
    -------
    numpy.ndarray
        float32, shape (count, 256, 256), foot to head within a series.

    Raises
    ------
    TypeError
        If `source` is not a path.
    ValueError
        If `count` is not between 1 and the number of slices.
    DataError
        If `source` is no folder, holds nothing of use, or pydicom or h5py is not installed.
    """
    if not isinstance(source, (str, Path)):
        raise TypeError(f"source must be a str or a pathlib.Path, got {type(source).__name__}: pass a folder")
    folder = Path(source)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"source {str(source)!r} {state}: pass a folder with DICOM files or with LoDoPaB-CT's ground_truth_*.hdf5"
        )
    published = sorted(folder.rglob("ground_truth_*.hdf5"), key=lambda path: path.name)
    if published:
        return _read_lodopab(folder, published, split, count)
    return read_dicom(folder, split, count)


def _read_lodopab(folder, published, split, count):
    files = [path for path in published if path.name.startswith(f"ground_truth_{split}_")]
    if len({path.name for path in files}) != len(files):
        raise DataError(f"source {str(folder)!r} holds LoDoPaB-CT twice: pass the folder of one copy")
    if not files:
        raise DataError(
            f"source {str(folder)!r} has no file ground_truth_{split}_000.hdf5, but {published[0].name}: "
            f"unpack ground_truth_{split}.zip of doi:10.5281/zenodo.3384092 there"
        )
    lengths = []
    for path in files:
        with _ground_truth(path) as data:
            lengths.append(len(data))
    ends = np.cumsum(lengths)
    chosen = spread(int(ends[-1]), count)
    weights = area_weights(_LODOPAB_WIDTH, SIZE)
    images = np.empty((len(chosen), SIZE, SIZE), np.float32)
    file_of = np.searchsorted(ends, chosen, side="right")
    for k in np.unique(file_of):
        where = np.flatnonzero(file_of == k)
        rows = chosen[where] - (ends[k] - lengths[k])
        with _ground_truth(files[k]) as data:
            for i in range(0, len(where), _BLOCK):
                values = data[rows[i : i + _BLOCK]].astype(np.float64)
                if not (values.min() >= 0 and values.max() <= 1):  # NaN fails as well
                    raise DataError(f"{files[k]} has values outside [0, 1]: LoDoPaB-CT is normalised to it")
                # Its authors stored the transposed slices, axes (column, row): weights on both sides and turned back.
                averaged = weights @ values.transpose(0, 2, 1) @ weights.T
                images[where[i : i + _BLOCK]] = (
                    1000 * (_MU_MAX * averaged - _MU_WATER) / (_MU_WATER - _MU_AIR)
                )
    return images


@contextmanager
def _ground_truth(path):
    """Open a file of LoDoPaB-CT; what is wrong with it becomes a DataError."""
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            # A file may say that its numbers lie in another one; what is read is this file and no other.
            if not isinstance(file.get("data", getlink=True), (h5py.HardLink, type(None))):
                raise DataError(f"{path} refers to another place for its dataset 'data': unpack it again")
            data = file.get("data")
            shape = getattr(data, "shape", None)
            if shape is None or shape[1:] != (_LODOPAB_WIDTH, _LODOPAB_WIDTH):
                raise DataError(
                    f"{path} is not in LoDoPaB-CT's layout: its dataset 'data' must have shape (N, 362, 362), got {shape}"
                )
            if len(data) > _MOST:
                raise DataError(f"{path} announces {len(data):,} slices, those of LoDoPaB-CT hold 128")
            if data.is_virtual or data.external or data.dtype.kind != "f":
                raise DataError(
                    f"{path} must hold the numbers of its dataset 'data' itself, as floats: unpack it again"
                )
            yield data
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # h5py's errors for files that are cut off
        if isinstance(error, DataError):
            raise
        raise DataError(f"could not read {path}: {error}. Unpack or download it again") from error


def _h5py():
    # Imported here: only who reads LoDoPaB-CT needs it.
    try:
        import h5py
    except ImportError as error:
        raise DataError("h5py is needed to read LoDoPaB-CT: pip install -e '.[data]'") from error
    return h5py
