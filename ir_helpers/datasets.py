"""Images to reconstruct, and from other modules: phantoms, changed views of images, and the noise of real measurements.

The small sets ship with the book. `full=True` reads the larger sets from the folder that the environment
variable IR_DATA_DIR names. All images are float32 tensors (B, C, H, W) with values in [0, 1].
"""

import numpy as np
import torch

from ir_helpers import celeba, downloads, scans, store
from ir_helpers.augmentation import flip_and_shift
from ir_helpers.larger import on_disk, read_larger
from ir_helpers.noise import HU_MAX, HU_MIN, low_dose, with_noise
from ir_helpers.phantoms import ellipses
from ir_helpers.splits import check_split, members, spread

__all__ = [
    "ct_patients",
    "ct_slices",
    "digits",
    "ellipses",
    "faces",
    "flip_and_shift",
    "low_dose",
    "on_disk",
    "to_hounsfield",
    "with_noise",
]


def digits(split, *, count=None, full=False):
    """Return handwritten digits of MNIST.

    Parameters
    ----------
    split : {"train", "test"}
        Parts of MNIST's own two halves: every fifth digit of each, 12,000 and 2,000 digits.
    count : int, optional
        Take this many, spread evenly over the split; None takes all.
    full : bool
        All 60,000 and 10,000 digits, from `mnist.npz` in the folder IR_DATA_DIR, or downloaded once.

    Returns
    -------
    torch.Tensor
        Shape (count, 1, 28, 28), white strokes (1) on black (0).

    Raises
    ------
    ValueError
        If `split` is unknown, or `count` is not between 1 and the number of digits.
    DataError
        If a file is missing or altered, or the download fails.

    References
    ----------
    LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document recognition, 1998,
    doi:10.1109/5.726791.
    """
    check_split(split)
    if full:
        arrays = read_larger("mnist.npz", otherwise=downloads.fetch_mnist)
    else:
        arrays = store.load_arrays("images/digits.npz")
    images = arrays[f"x_{split}"]
    return _unit(images[spread(len(images), count)])[:, None]


def faces(split, *, count=None, full=False, source=None):
    """Return portraits, split by person: nobody is in both splits.

    Parameters
    ----------
    split : {"train", "test"}
        In the order of their ids, every fifth person is for the test. With `source`, also "validation": CelebA's own
        three parts.
    count : int, optional
        Take this many, spread evenly over the split; None takes all.
    full : bool
        False: the 400 grey ORL faces of 40 people, credit AT&T Laboratories Cambridge. True: colour portraits
        of 700 members of the US Congress, one each, from `faces_congress64.npz` in the folder IR_DATA_DIR.
    source : str or pathlib.Path, optional
        A folder with CelebA in torchvision's layout, `img_align_celeba/` and `list_eval_partition.txt`. A square
        around the face is averaged over areas to 64 x 64. All 162,770 faces of "train" take 8 GB: pass `count`.

    Returns
    -------
    torch.Tensor
        Shape (count, 1, 64, 64), or (count, 3, 64, 64) with `full` or `source`.

    Raises
    ------
    TypeError
        If `source` is not a path.
    ValueError
        If `split` is unknown, `count` is not between 1 and the number of faces, or both `full` and `source` are
        given.
    DataError
        If a file is missing, altered or broken.

    References
    ----------
    Samaria & Harter, Parameterisation of a stochastic model for human face identification, 1994,
    doi:10.1109/ACV.1994.341300. Liu, Luo, Wang & Tang, Deep learning face attributes in the wild (CelebA), 2015,
    arXiv:1411.7766.
    """
    _one_of(full, source)
    if source is not None:
        return torch.from_numpy(celeba.read_faces(source, split, count))
    check_split(split)
    if full:
        arrays = read_larger("faces_congress64.npz")
        chosen = members(arrays["bioguide"], split, count)
        return _unit(arrays["images"][chosen]).permute(0, 3, 1, 2).contiguous()
    arrays = store.load_arrays("images/faces.npz")
    return _unit(arrays["images"][members(arrays["person"], split, count)])[:, None]


def ct_slices(split, *, count=None, full=False, source=None):
    """Return axial slices of chest CT, split by scan or patient.

    x = (clip(h, -1024, 1024) + 1024) / 2048 for a value h in Hounsfield units (HU): vacuum and air are near
    0, water is 0.5, dense bone reaches 1. Slices are seen from the feet with the front of the body on top.

    Parameters
    ----------
    split : {"train", "test"}
        In the order of their ids, every fifth scan (`full`: patient) is for the test, beginning with the
        first.
    count : int, optional
        Take this many, spread evenly over the split; None takes all.
    full : bool
        False: slices of three scans, coded in steps of 8 HU (the error is at most 4 HU below 1020 HU). True:
        slices of 46 patients of The Cancer Imaging Archive, from `ct_tcia256.npz` in the folder IR_DATA_DIR.
    source : str or pathlib.Path, optional
        A folder of your own, searched with all folders in it.

        *DICOM:* axial slices of CT, sorted by patient, series and position. PatientID decides the split. A
        margin of -1024 HU makes a slice square, and areas are averaged down to 256 x 256; up to 256 pixels
        on a side are kept. One warning counts the files that could not be used and names the first.

        *LoDoPaB-CT* as published: `ground_truth_train_000.hdf5` and so on, 362 x 362 pixels for 26 cm,
        averaged over areas. The published split is kept. Its values begin at -1001 HU.

    Returns
    -------
    torch.Tensor
        Shape (count, 1, 256, 256).

    Raises
    ------
    TypeError
        If `source` is not a path.
    ValueError
        If `split` is unknown, `count` is not between 1 and the number of slices, or both `full` and `source`
        are given.
    DataError
        If a file is missing or altered, `source` has no slice of the split, or pydicom or h5py is needed and
        not installed.

    References
    ----------
    Leuschner, Schmidt, Otero Baguer & Maass, LoDoPaB-CT, a benchmark dataset for low-dose computed tomography
    reconstruction, 2021, doi:10.1038/s41597-021-00893-z, arXiv:1910.01113.
    """
    check_split(split)
    _one_of(full, source)
    if source is not None:
        hounsfield = scans.read_slices(source, split, count)
    elif full:
        arrays = read_larger("ct_tcia256.npz")
        hounsfield = arrays["hu"][members(arrays["patient"], split, count)]
    else:
        arrays = store.load_arrays("images/ct.npz")
        code = arrays["code"][members(arrays["scan"], split, count)]
        hounsfield = arrays["hu_offset"] + arrays["hu_step"] * code.astype(np.int16)
    x = hounsfield.astype(np.float32, copy=False)
    np.clip(x, HU_MIN, HU_MAX, out=x)  # in place, as all below: published sets are large
    x -= np.float32(HU_MIN)
    x /= np.float32(HU_MAX - HU_MIN)
    return torch.from_numpy(x)[:, None]


def ct_patients(split):
    """Return the patient of each slice of ``ct_slices(split, full=True)``, an array of names.

    Raises
    ------
    ValueError
        If `split` is unknown.
    DataError
        If the file is missing.
    """
    check_split(split)
    patients = read_larger("ct_tcia256.npz")["patient"]
    return patients[members(patients, split)]


def to_hounsfield(x):
    """Return the Hounsfield units h = 2048 x - 1024 of a normalised CT image, see `ct_slices`."""
    if not isinstance(x, (int, float, np.number, np.ndarray, torch.Tensor)):
        raise TypeError(f"x must be a number, an array or a tensor, got {type(x).__name__}")
    return (HU_MAX - HU_MIN) * x + HU_MIN


def _one_of(full, source):
    if full and source is not None:
        raise ValueError(f"full=True came with source={str(source)!r}: pass one of them")


def _unit(images):
    return torch.from_numpy(images.astype(np.float32) / np.float32(255))
