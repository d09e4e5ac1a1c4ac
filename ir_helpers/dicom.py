"""Axial CT slices from a folder of DICOM files; public as `datasets.ct_slices(source=...)`."""

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ir_helpers.files import DataError
from ir_helpers.noise import HU_MIN
from ir_helpers.splits import members, spread

__all__ = ["SIZE", "area_weights", "read_dicom"]

SIZE = 256
# Beyond these a file is no slice of CT, but one that would fill the memory: pixels on a side, and bytes of a file that is
# deflated as a whole, which unpacks to a thousand times as many at most.
_MOST_PIXELS, _MOST_DEFLATED = 4096, 2**21
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_NEEDED = [
    *("PatientID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "Rows", "Columns", "BitsAllocated"),
]
_OPTIONAL = ["SOPClassUID", "ImageType", "InstanceNumber", "RescaleType", "NumberOfFrames", "SamplesPerPixel"]


class _Slice(NamedTuple):
    """What a header says, in the order of sorting."""

    patient: str
    series: str
    position: float  # mm, from the feet to the head
    number: int
    path: str


class _Unusable(Exception):
    """Why a file is skipped."""


def read_dicom(folder, split, count):
    """Return the axial CT slices of a split in HU, sorted by patient, series and position.

    Files that cannot be used are skipped, and one warning counts them.

    Parameters
    ----------
    folder : pathlib.Path
        Searched with all folders in it; names of files do not matter.
    split : {"train", "test"}
        By PatientID: every fifth patient in the order of names is for the test, beginning with the first.
    count : int or None
        Take this many, spread evenly over the split; None takes all. Only their pixels are read.

    Returns
    -------
    numpy.ndarray
        float32, shape (count, 256, 256), at least -1024 HU.

    Raises
    ------
    ValueError
        If `count` is not between 1 and the number of slices.
    DataError
        If no file can be used, or pydicom is not installed.
    """
    pydicom = _pydicom()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    skipped, slices = {}, []
    for path in files:
        with _skipping(skipped, path):
            slices.append(_header(pydicom, path))
    slices.sort()
    # Headers alone decide who is for the test: a file found broken later must not move a patient between splits.
    candidates = [slices[i] for i in members([one.patient for one in slices], split)]
    try:
        while candidates:
            chosen = [candidates[i] for i in spread(len(candidates), count)]
            images = np.empty((len(chosen), SIZE, SIZE), np.float32)
            before = len(skipped)
            for image, one in zip(images, chosen, strict=True):
                with _skipping(skipped, Path(one.path)):
                    image[:] = _hounsfield(pydicom, one.path)
            if len(skipped) == before:
                return images
            # Rare: headers are checked first. Without the broken files the even choice is another one.
            candidates = [one for one in candidates if Path(one.path) not in skipped]
    finally:
        if skipped and candidates:
            warnings.warn(_skipped_text(folder, files, skipped), UserWarning, stacklevel=4)
    patients = len({one.patient for one in slices})
    raise DataError(
        f"source {str(folder)!r} has no usable slice for split {split!r}: {patients} patients with axial CT (every "
        f"fifth, beginning with the first, is for the test). {_skipped_text(folder, files, skipped)}. Pass a folder "
        "with axial DICOM files of CT, or with LoDoPaB-CT's ground_truth_*.hdf5"
    )


@contextmanager
def _skipping(skipped, path):
    """Note in `skipped` why a file cannot be used."""
    try:
        # pydicom warns of each odd value in a header; what matters for the image is checked here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _Unusable as error:
        skipped[path] = str(error)
    except Exception as error:  # noqa: BLE001 - foreign bytes fail in any way: EOFError, struct.error, zlib.error
        skipped[path] = f"broken, {type(error).__name__}: {error}".splitlines()[0][:100]


def _skipped_text(folder, files, skipped):
    first = [f"{path.relative_to(folder)} ({why})" for path, why in list(skipped.items())[:3]]
    more = ", ..." if len(skipped) > 3 else ""
    return f"{len(skipped)} of {len(files)} files were skipped{': ' * bool(first)}{', '.join(first)}{more}"


def _header(pydicom, path):
    """Return the place of a slice in the order, without reading its pixels, or say why it cannot be used."""
    try:
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", "")
        if getattr(syntax, "is_deflated", False) and os.path.getsize(path) > _MOST_DEFLATED:
            raise _Unusable(f"deflated, and larger than {_MOST_DEFLATED:,} bytes")
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_NEEDED + _OPTIONAL)
    except pydicom.errors.InvalidDicomError:
        raise _Unusable("not a DICOM file") from None
    kind = header.get("SOPClassUID", "no image")
    if kind != _CT_IMAGE:
        raise _Unusable(f"{getattr(kind, 'name', kind)}, not CT Image Storage")
    if missing := [tag for tag in _NEEDED if header.get(tag) in (None, "")]:
        raise _Unusable(f"without {missing[0]}")
    if max(header.Rows, header.Columns) > _MOST_PIXELS:
        raise _Unusable(f"{header.Rows} x {header.Columns} pixels, more than {_MOST_PIXELS} on a side")
    frames, colours = (int(header.get(tag) or 1) for tag in ("NumberOfFrames", "SamplesPerPixel"))
    if frames != 1 or colours != 1:
        shape = (frames, header.Rows, header.Columns) + (colours,) * (colours > 1)
        raise _Unusable(f"pixels of shape {shape}, not one slice")
    if "LOCALIZER" in header.get("ImageType", ()):
        raise _Unusable("a localizer")
    if header.get("RescaleType", "HU") not in ("HU", "", None):
        raise _Unusable(f"values in {header.RescaleType}, not HU")
    down, across = header.PixelSpacing
    if abs(across - down) > 0.01 * down:
        raise _Unusable(f"pixels of {down} mm x {across} mm, not square")
    _directions(header)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        if not pydicom.pixels.get_decoder(syntax).is_available:
            raise _Unusable(f"no decoder for {syntax.name}; see pydicom's page on compressed pixels")
    elif not syntax.is_deflated:
        needed = header.Rows * header.Columns * header.BitsAllocated // 8
        if os.path.getsize(path) < needed:
            raise _Unusable("broken, the file ends before its pixels do")
    number = int(header.get("InstanceNumber") or 0)
    position = float(header.ImagePositionPatient[2])
    return _Slice(header.PatientID, header.SeriesInstanceUID, position, number, str(path))


def _directions(header):
    """Return the steps (left, back, head) along a row and down a column as -1, 0 and 1, or refuse the slice.

    DICOM's axes point to the left, the back and the head of the patient. A slice is axial if its rows and columns run
    along the first two. Half a degree is let pass: cosines within .01 of whole numbers.
    """
    cosines = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    steps = np.round(cosines).astype(int)
    axial = np.abs(steps).tolist() in ([[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [1, 0, 0]])
    if not axial or np.abs(cosines - steps).max() > 0.01:
        raise _Unusable(
            f"not axial: ImageOrientationPatient is {[round(c, 3) for c in cosines.ravel().tolist()]}"
        )
    return steps


def _hounsfield(pydicom, path):
    """Read the pixels of one slice: HU, the front on top and the patient's right at the left, 256 x 256."""
    data = pydicom.dcmread(path)
    pixels = data.pixel_array
    if pixels.ndim != 2:
        raise _Unusable(f"pixels of shape {pixels.shape}, not one slice")
    values = float(data.RescaleSlope) * pixels + float(data.RescaleIntercept)
    if "PixelPaddingValue" in data:
        values[pixels == data.PixelPaddingValue] = HU_MIN
    # Less than vacuum is no measurement, but padding around the scanner's circle, often -2000 or -3024.
    values = np.maximum(values, HU_MIN)
    along_row, down_column = _directions(data)
    if along_row[0] == 0:
        values = values.T
    back, left = along_row[1] + down_column[1], along_row[0] + down_column[0]
    return _fit(values[::back, ::left])


def _fit(values):
    """Bring a slice to 256 x 256 as those of the book: a margin of -1024 HU makes it square, areas are averaged.

    Up to 256 pixels on a side are kept as they are, in the middle.
    """
    size = max(SIZE, *values.shape)
    margins = [((size - n) // 2, size - n - (size - n) // 2) for n in values.shape]
    weights = area_weights(size, SIZE)
    return weights @ np.pad(values, margins, constant_values=HU_MIN) @ weights.T


def _pydicom():
    # Imported here: only who reads DICOM files needs it.
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise DataError("pydicom is needed to read DICOM files: pip install -e '.[data]'") from error
    return pydicom


def area_weights(width, size):
    """Return the (size, width) weights that average `width` pixels over `size` equal lengths; rows sum to 1.

    In units of 1 / size of a pixel all borders are whole numbers, so the overlaps are exact.
    """
    pixel, area = np.arange(width) * size, np.arange(size) * width
    overlap = np.minimum.outer(area + width, pixel + size) - np.maximum.outer(area, pixel)
    return overlap.clip(0) / width
