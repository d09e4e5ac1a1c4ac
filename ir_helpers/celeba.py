"""Faces from a folder of CelebA in torchvision's layout; public as `datasets.faces(source=...)`."""

from pathlib import Path

import numpy as np
from PIL import Image  # Matplotlib brings it

from ir_helpers.dicom import area_weights
from ir_helpers.files import DataError
from ir_helpers.splits import check_split, spread

__all__ = ["read_faces"]

_SIZE, _FIGURE = 64, {"train": "0", "validation": "1", "test": "2"}
_IMAGES, _PARTITION = "img_align_celeba", "list_eval_partition.txt"
_LONGEST = 2**26  # bytes of the list of names: CelebA's has 3 MB
_ALIGNED = (178, 218)  # width and height of CelebA's aligned images
# The square that Larsen et al. cut out. Eyes come to lie where they are in the portraits of the book, within a tenth of
# the image.
_ROWS, _COLUMNS = slice(40, 188), slice(15, 163)


def read_faces(source, split, count):
    """Return the faces of a split, see `datasets.faces`.

    The 148 x 148 pixels around the face, rows 40 to 187 and columns 15 to 162 of the aligned image, are averaged over equal
    areas to 64 x 64.

    Parameters
    ----------
    source : str or pathlib.Path
        The folder that holds `img_align_celeba/` and `list_eval_partition.txt`.
    split : {"train", "validation", "test"}
        The published partition; nobody is in two of its parts.
    count : int or None
        Take this many, spread evenly over the split; None takes all. Only their files are read.

    Returns
    -------
    numpy.ndarray
        float32, shape (count, 3, 64, 64), in [0, 1].

    Raises
    ------
    TypeError
        If `source` is not a path.
    ValueError
        If `split` is unknown, or `count` is not between 1 and the number of faces.
    DataError
        If a folder or file is missing or broken, or an image is not one of CelebA's aligned ones.

    References
    ----------
    Z. Liu, P. Luo, X. Wang and X. Tang, Deep learning face attributes in the wild, ICCV 2015, arXiv:1411.7766. The square:
    A. B. L. Larsen et al., Autoencoding beyond pixels using a learned similarity metric, ICML 2016, arXiv:1512.09300.
    """
    check_split(split, tuple(_FIGURE))
    if not isinstance(source, (str, Path)):
        raise TypeError(f"source must be a str or a pathlib.Path, got {type(source).__name__}: pass a folder")
    folder = Path(source)
    if not (folder / _IMAGES).is_dir() or not (folder / _PARTITION).is_file():
        raise DataError(
            f"source {str(source)!r} must be a folder with {_IMAGES}/ and {_PARTITION}: the folder celeba/ that torchvision "
            "makes, or both unpacked into one folder from CelebA's site. More in data/README.md"
        )
    names = _names(folder / _PARTITION, split)
    weights = area_weights(_ROWS.stop - _ROWS.start, _SIZE)
    chosen = spread(len(names), count)
    faces = np.empty((len(chosen), 3, _SIZE, _SIZE), np.float32)
    for face, k in zip(faces, chosen, strict=True):
        square = _aligned(folder / _IMAGES / names[k])[_ROWS, _COLUMNS] / 255
        face[:] = weights @ square.transpose(2, 0, 1) @ weights.T
    return faces


def _names(path, split):
    """Return the names of the images of a split; the file has lines such as `000001.jpg 0`."""
    names = []
    if path.stat().st_size > _LONGEST:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes, CelebA's has 3 MB: fetch the file again")
    # Other bytes than text become signs that no line may have, so the line is named below.
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in _FIGURE.values():
            raise DataError(
                f"{path}, line {number} is {line[:60]!r}, not a name and 0, 1 or 2 such as '000001.jpg 0': "
                "fetch the file again"
            )
        if any(sign in fields[0] for sign in "/\\:\0") or fields[0].startswith("."):
            raise DataError(f"{path}, line {number} names {fields[0][:60]!r}, which is no plain file name")
        if fields[1] == _FIGURE[split]:
            names.append(fields[0])
    if not names:
        raise DataError(f"{path} names no image of split {split!r} ({_FIGURE[split]}): fetch the file again")
    return names


def _aligned(path):
    """Return an aligned image, uint8 (218, 178, 3); what is wrong with it becomes a DataError."""
    if not path.is_file():
        raise DataError(f"{path} is missing, but {_PARTITION} names it: unpack CelebA's {_IMAGES}.zip again")
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            if image.size != _ALIGNED or image.mode != "RGB":
                width, height = image.size
                raise DataError(
                    f"{path} has {width} x {height} pixels ({image.mode}), not 178 x 218 in colour: pass CelebA's aligned "
                    f"images, {_IMAGES}.zip, not those in the wild"
                )
            return np.asarray(image)
    except DataError:
        raise
    except (
        Exception
    ) as error:  # foreign bytes fail in any way: OSError, SyntaxError, struct.error, a size that is absurd
        raise DataError(f"could not read {path}: {error}. Unpack CelebA's {_IMAGES}.zip again") from error
