"""Slices from folders of DICOM files and from LoDoPaB-CT, against values computed here from what was written."""

import itertools
import math
import shutil
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
import torch
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset

from ir_helpers import datasets, store

# Files of real scanners, part of the package pydicom.
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def write(path, pixels, *, patient="P0", series="1.2.3", z=0.0, axes=(1, 0, 0, 0, 1, 0), **changes):
    """Write pixels (uint16) as a DICOM file of CT; `changes` sets or, with None, removes elements of the header."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("syntax", uid.ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", uid.CTImageStorage)
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    elements = {
        "SOPClassUID": uid.CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": patient,
        "SeriesInstanceUID": series,
        "ImagePositionPatient": [0.0, 0.0, z],
        "ImageOrientationPatient": list(axes),
        "PixelSpacing": [0.7, 0.7],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": pixels.astype("<u2").tobytes(),
    }
    for name, value in (elements | changes).items():
        if value is not None:
            setattr(data, name, value)
    data["PixelData"].VR = "OW"
    if meta.TransferSyntaxUID.is_encapsulated:
        data.PixelData = pydicom.encaps.encapsulate([b"not a picture "])
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def scene(height=512, width=512, seed=0):
    """Random stored values 0 ... 2000, without any symmetry."""
    return np.random.default_rng(seed).integers(0, 2001, (height, width))


def averaged(image, size=256):
    """Average over size x size areas: repeat every pixel until the areas are whole numbers of copies."""
    for _ in range(2):
        copies = size // math.gcd(len(image), size)
        image = np.repeat(image, copies, axis=0)
        image = image.reshape(size, -1, image.shape[1]).mean(axis=1).T
    return image


def normalised(hounsfield):
    return (np.clip(hounsfield, -1024, 1024) + 1024) / 2048


def load(folder, split="test", **options):
    """Load without a warning, as NumPy (N, 256, 256)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = datasets.ct_slices(split, source=folder, **options)
    assert images.dtype == torch.float32
    assert images.shape[1:] == (1, 256, 256)
    return images[:, 0].numpy()


def close(images, expected):
    return np.abs(images - expected).max() < 1e-6  # float32 of numbers up to 1


# --- DICOM ---

SIGNED_AXES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)]
IN_PLANE = [(*a, *b) for a, b in itertools.product(SIGNED_AXES, repeat=2) if np.dot(a, b) == 0]


@pytest.mark.parametrize("axes", IN_PLANE)
def test_every_axial_orientation_is_turned_to_the_same_view(tmp_path, axes):
    """The body is given by its coordinates (back, left); each stored pixel looks up what lies at its place."""
    body = scene()
    row, column = np.meshgrid(np.arange(512), np.arange(512), indexing="ij")
    left, back = (column * axes[k] + row * axes[3 + k] for k in (0, 1))
    write(tmp_path / "a", body[back - back.min(), left - left.min()], axes=axes)
    expected = normalised(body.reshape(256, 2, 256, 2).mean(axis=(1, 3)) - 1024)
    assert close(load(str(tmp_path)), expected)


@pytest.mark.parametrize(
    ("axes", "fits"),
    [
        ((1, 0, 0, 0, 0, -1), False),  # coronal
        ((0, 1, 0, 0, 0, -1), False),  # sagittal
        ((1, 0, 0, 0, 0.97, -0.242), False),  # gantry tilted by 14 degrees
        ((0.999, 0.035, 0, -0.035, 0.999, 0), False),  # turned by 2 degrees
        ((0.99999, 0.004, 0, -0.004, 0.99999, 0), True),  # turned by 0.2 degrees
        ((1, 0, 0, 1, 0, 0), False),  # no plane
    ],
)
def test_oblique_slices_are_refused(tmp_path, axes, fits):
    write(tmp_path / "a", scene(), axes=axes)
    if fits:
        assert len(load(tmp_path)) == 1
    else:
        with pytest.raises(store.DataError, match=r"1 of 1 files were skipped: a \(not axial"):
            load(tmp_path)


def test_rescaling_and_padding(tmp_path):
    stored = np.full((256, 256), 1000)
    stored[0, :3] = 65535, 0, 4000
    write(tmp_path / "a", stored, RescaleSlope=0.5, RescaleIntercept=-600.25, PixelPaddingValue=65535)
    image = load(tmp_path)[0]
    assert image[0, :4] == pytest.approx([0, (1024 - 600.25) / 2048, 1, (1024 - 100.25) / 2048], abs=1e-6)


def test_padding_does_not_leak_into_the_average(tmp_path):
    """Outside their circle scanners write -3024 HU or so; an area that is half of it is half vacuum."""
    stored = np.tile([0, 3024], (512, 256))
    write(tmp_path / "a", stored, RescaleIntercept=-3024)
    assert close(load(tmp_path), normalised(np.full((256, 256), -512)))


@pytest.mark.parametrize("shape", [(512, 512), (768, 768), (1024, 1024), (600, 600), (257, 257)])
def test_large_slices_are_averaged_over_equal_areas(tmp_path, shape):
    write(tmp_path / "a", scene(*shape))
    assert close(load(tmp_path), normalised(averaged(scene(*shape) - 1024.0)))


def test_a_margin_of_vacuum_makes_slices_square(tmp_path):
    small, wide = scene(100, 201), scene(256, 512)
    write(tmp_path / "1", small, z=1)
    write(tmp_path / "2", wide, z=2)
    images = load(tmp_path)
    first, second = np.zeros((256, 256)), np.zeros((512, 512))
    first[78:178, 27:228] = small
    second[128:384] = wide
    assert close(images[0], normalised(first - 1024))
    assert close(images[1], normalised(averaged(second) - 1024))


@pytest.fixture
def patients(tmp_path):
    """Seven patients, two slices each; x is 0.1 * (the patient's number) + 0.01 * (the place of the slice)."""
    order = np.random.default_rng(1).permutation(14)
    for name, k in enumerate(order):
        number, place = divmod(int(k), 2)
        value = round(2048 * (0.1 * number + 0.01 * place))
        # File names and folders tell nothing; the lower slice has the larger number.
        path = tmp_path / f"f{name % 3}" / f"IM{name}"
        write(
            path,
            np.full((64, 64), value),
            patient=f"P{number}",
            z=-50.0 + 5 * place,
            InstanceNumber=9 - place,
        )
    return tmp_path


def middle(images):
    """The values of constant slices, to two digits."""
    return [round(float(image[128, 128]), 2) for image in images]


def test_slices_are_sorted_and_split_by_patient(patients):
    assert middle(load(patients)) == [0.0, 0.01, 0.5, 0.51]
    assert middle(load(patients, "train")) == [0.1, 0.11, 0.2, 0.21, 0.3, 0.31, 0.4, 0.41, 0.6, 0.61]
    assert middle(load(patients, "train", count=2)) == [0.2, 0.41]  # places 2 and 7 of ten
    assert middle(load(patients, count=4)) == middle(load(patients))
    with pytest.raises(ValueError, match="count is 5, but this split has 4 images"):
        load(patients, count=5)
    with pytest.raises(ValueError, match="count must be a positive whole number"):
        load(patients, count=0)


def test_series_stay_together(tmp_path):
    for series, z, value in [("1.2", 1, 10), ("1.1", 2, 20), ("1.2", 0, 30), ("1.1", -7, 40)]:
        write(tmp_path / str(value), np.full((64, 64), value), series=series, z=z)
    assert (load(tmp_path)[:, 128, 128] * 2048).round().tolist() == [40, 20, 30, 10]


def test_a_file_of_a_real_scanner(tmp_path):
    shutil.copy(SAMPLES / "CT_small.dcm", tmp_path)
    stored = pydicom.dcmread(tmp_path / "CT_small.dcm")
    assert (stored.PatientPosition, stored.Rows, stored.RescaleIntercept) == ("FFS", 128, -1024)
    image = load(tmp_path)[0]
    assert close(image[64:192, 64:192], normalised(stored.pixel_array - 1024.0))
    image[64:192, 64:192] = 0
    assert not image.any()


UNUSABLE = {
    "mr": (
        lambda path: shutil.copy(SAMPLES / "MR_small.dcm", path),
        "MR Image Storage, not CT Image Storage",
    ),
    "enhanced": (
        lambda path: write(path, scene(8, 8), SOPClassUID=uid.EnhancedCTImageStorage),
        "Enhanced CT",
    ),
    "text": (lambda path: path.write_text("Readme\n" * 50), "not a DICOM file"),
    "empty": (lambda path: path.write_bytes(b""), "not a DICOM file"),
    "cut": (lambda path: cut(write(path, scene()), 300_000), "broken, the file ends before its pixels do"),
    "cut in the header": (lambda path: cut(write(path, scene()), 400), "broken|without|no image"),
    "a little cut": (lambda path: cut(write(path, scene()), -100), "broken, "),
    "jpeg-ls": (
        lambda path: write(path, scene(8, 8), syntax=uid.JPEGLSLossless),
        "no decoder for JPEG-LS|broken",
    ),
    "bad rle": (lambda path: write(path, scene(8, 8), syntax=uid.RLELossless), "broken, "),
    "nobody": (lambda path: write(path, scene(), patient=""), "without PatientID"),
    "no scale": (lambda path: write(path, scene(), RescaleSlope=None), "without RescaleSlope"),
    "no pixels": (lambda path: write(path, scene(), Rows=None), "without Rows"),
    "scout": (
        lambda path: write(path, scene(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "a localizer",
    ),
    "other units": (lambda path: write(path, scene(), RescaleType="US"), "values in US, not HU"),
    "flat": (
        lambda path: write(path, scene(), PixelSpacing=[0.5, 0.7]),
        "pixels of 0.5 mm x 0.7 mm, not square",
    ),
    "frames": (
        lambda path: write(path, scene(512, 256), Rows=256, NumberOfFrames=2),
        r"pixels of shape \(2, 256, 256\)",
    ),
}


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, name):
    make, reason = UNUSABLE[name]
    make(tmp_path / "odd file")
    with pytest.raises(store.DataError, match=rf"1 of 1 files were skipped: odd file \(({reason})"):
        load(tmp_path)
    write(tmp_path / "good", scene())
    with pytest.warns(UserWarning, match=rf"1 of 2 files were skipped: odd file \(({reason})") as caught:
        images = datasets.ct_slices("test", source=tmp_path)
    assert close(images[0, 0].numpy(), normalised(averaged(scene() - 1024.0)))
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the warning points to the caller's line


def test_one_warning_counts_all_and_names_the_first(patients):
    for name, (make, _) in UNUSABLE.items():
        make(patients / f"f1-{name}")
    text = rf"{len(UNUSABLE)} of {len(UNUSABLE) + 14} files were skipped: .*, \.\.\.$"
    with pytest.warns(UserWarning, match=text) as caught:
        images = datasets.ct_slices("test", source=patients)
    assert len(caught) == 1
    assert str(caught[0].message).count("f1-") == 3
    assert middle(images[:, 0]) == [0.0, 0.01, 0.5, 0.51]


def test_pixels_found_broken_change_neither_the_split_nor_the_number(patients):
    where = {}
    for path in patients.rglob("IM*"):
        header = pydicom.dcmread(path)
        where[header.PatientID, header.InstanceNumber] = path
    for key in [("P0", 8), ("P0", 9), ("P2", 9)]:  # the first patient loses all, but stays one of the test
        cut(where[key], -10)
    with pytest.warns(UserWarning, match="2 of 14 files"):
        assert middle(datasets.ct_slices("test", source=patients)[:, 0]) == [0.5, 0.51]
    with pytest.warns(UserWarning, match="1 of 14 files"):
        assert middle(datasets.ct_slices("train", source=patients, count=2)[:, 0]) == [0.21, 0.41]
    # A slice that was not asked for is not decoded, so nothing is said of it.
    assert middle(load(patients, "train", count=1)) == [0.31]


def test_a_split_without_patients_is_explained(tmp_path):
    write(tmp_path / "a", scene())
    with pytest.raises(
        store.DataError, match=r"no usable slice for split 'train': 1 patients.*every fifth.*test"
    ):
        load(tmp_path, "train")
    assert len(load(tmp_path, "test")) == 1


# --- LoDoPaB-CT ---


def write_lodopab(path, images):
    """Write slices (N, 362, 362) as the authors did: one data set `data`, float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.asarray(images, np.float32), chunks=(1, 362, 362))


@pytest.fixture(scope="module")
def lodopab(tmp_path_factory):
    """Two files of 5 and 3 slices to train, one of 4 for the test; constant but for the first of all."""
    folder = tmp_path_factory.mktemp("lodopab")
    values = 0.1 + 0.02 * np.arange(12)
    images = values[:, None, None] * np.ones((1, 362, 362))
    images[0] = np.random.default_rng(2).uniform(0, 0.5, (362, 362))
    write_lodopab(folder / "ground_truth_train_000.hdf5", images[:5])
    write_lodopab(folder / "a" / "ground_truth_train_001.hdf5", images[5:8])  # names order files, not folders
    write_lodopab(
        folder / "more" / "ground_truth_test_000.hdf5", images[8:]
    )  # unpacked to a folder of its own
    write_lodopab(folder / "ground_truth_validation_000.hdf5", images[:1])
    (folder / "patient_ids_rand_train.csv").write_text("7\n" * 8)
    (folder / "observation_train_000.hdf5").write_bytes(b"not read")
    return folder, images


def published_hounsfield(stored):
    """HU of stored values as the paper states them: mu_max is the attenuation of 3071 HU, air .02, water 20 (1/m)."""
    largest = 3071 * (20 - 0.02) / 1000 + 20
    assert largest == pytest.approx(81.35858)
    return 1000 * (stored * largest - 20) / (20 - 0.02)


def test_lodopab_is_averaged_and_turned_upright(lodopab):
    folder, images = lodopab
    expected = normalised(averaged(published_hounsfield(images[0].astype(np.float32).astype(float).T)))
    assert close(load(folder, "train")[0], expected)


def test_lodopab_values_and_files(lodopab):
    folder, images = lodopab
    train, test = load(folder, "train"), load(str(folder), "test")
    assert (len(train), len(test)) == (8, 4)
    expected = normalised(published_hounsfield(images[:, 0, 0]))
    assert train[1:, 100, 50] == pytest.approx(expected[1:8], abs=1e-6)
    assert test[:, 100, 50] == pytest.approx(expected[8:], abs=1e-6)
    assert np.ptp(train[1:], axis=(1, 2)).max() < 1e-6


def test_water_and_bone_of_lodopab(tmp_path):
    stored = np.array([0, 0.02, 20, 25, 70]) / 81.35858
    write_lodopab(tmp_path / "ground_truth_test_000.hdf5", stored[:, None, None] * np.ones((1, 362, 362)))
    hounsfield = datasets.to_hounsfield(load(tmp_path)[:, 5, 5])
    assert hounsfield.tolist() == pytest.approx([-1001.0, -1000, 0, 250.25, 1024], abs=0.01)


def test_count_is_spread_over_all_files_and_only_those_are_read(lodopab, monkeypatch):
    folder, _ = lodopab
    everything = load(folder, "train")
    rows, read = [], h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda data, key: rows.append(list(key)) or read(data, key)
    )
    assert np.array_equal(load(folder, "train", count=3), everything[[1, 4, 6]])
    assert rows == [[1, 4], [1]]
    rows.clear()
    monkeypatch.setattr("ir_helpers.scans._BLOCK", 2)
    assert np.array_equal(load(folder, "train"), everything)
    assert rows == [[0, 1], [2, 3], [4], [0, 1], [2]]  # never more than a block at once
    with pytest.raises(ValueError, match="count is 9, but this split has 8 images"):
        load(folder, "train", count=9)


def other_values(path):
    write_lodopab(path, np.full((2, 362, 362), 1.5))


def other_shape(path):
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 100, 100))


def other_name(path):
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 362, 362))


def not_a_number(path):
    write_lodopab(path, np.full((2, 362, 362), np.nan))


def cut_off(path):
    write_lodopab(path, np.zeros((2, 362, 362)))
    cut(path, 100_000)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (other_values, r"test_000.hdf5 has values outside \[0, 1\]"),
        (not_a_number, r"test_000.hdf5 has values outside \[0, 1\]"),
        (other_shape, r"test_000.hdf5 is not .* must have shape \(N, 362, 362\), got \(2, 100, 100\)"),
        (other_name, r"test_000.hdf5 is not .* must have shape \(N, 362, 362\), got None"),
        (cut_off, "could not read .*test_000.hdf5: .*Unpack or download it again"),
    ],
)
def test_a_wrong_file_of_lodopab_is_refused_by_name(tmp_path, make, text):
    make(tmp_path / "ground_truth_test_000.hdf5")
    with pytest.raises(store.DataError, match=text):
        load(tmp_path)


def test_a_missing_part_and_a_second_copy_are_refused(lodopab, tmp_path):
    folder, _ = lodopab
    with pytest.raises(
        store.DataError, match=r"no file ground_truth_train_000.hdf5.*ground_truth_train\.zip"
    ):
        load(folder / "more", "train")
    for copy in "ab":
        write_lodopab(tmp_path / copy / "ground_truth_test_000.hdf5", np.zeros((1, 362, 362)))
    with pytest.raises(store.DataError, match="holds LoDoPaB-CT twice"):
        load(tmp_path)


# --- the argument ---


def test_a_source_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(store.DataError, match="source '.*nowhere' does not exist: pass a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(store.DataError, match="source '.*file' is a file: pass a folder"):
        load(tmp_path / "file")
    with pytest.raises(TypeError, match="source must be a str or a pathlib.Path, got int"):
        load(3)
    with pytest.raises(ValueError, match="full=True came with source='.*': pass one of them"):
        load(tmp_path, full=True)
    with pytest.raises(ValueError, match="split must be"):
        load(tmp_path, "validation")


def test_an_empty_folder_is_explained(tmp_path):
    with pytest.raises(
        store.DataError, match=r"no usable slice.*0 patients.*0 of 0 files were skipped\. Pass a"
    ):
        load(tmp_path)


@pytest.mark.parametrize("library", ["pydicom", "h5py"])
def test_a_missing_library_is_named_with_the_command(lodopab, tmp_path, monkeypatch, library):
    write(tmp_path / "a", scene(8, 8))
    monkeypatch.setitem(sys.modules, library, None)  # what Python does where it is not installed
    with pytest.raises(store.DataError, match=rf"{library} is needed .*pip install -e '\.\[data\]'"):
        load(tmp_path if library == "pydicom" else lodopab[0])
