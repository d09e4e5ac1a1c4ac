"""Images have one scale and disjoint splits; noise follows its law; larger sets are read or fetched."""

import math

import numpy as np
import pytest
import torch

from ir_helpers import datasets, operators, store

SETS = {
    "digits": (datasets.digits, (1, 28, 28), 12_000, 2_000),
    "faces": (datasets.faces, (1, 64, 64), 320, 80),
    "ct_slices": (datasets.ct_slices, (1, 256, 256), 92, 44),
}


@pytest.mark.parametrize("name", SETS)
def test_images_have_one_shape_type_and_range(name):
    load, shape, *counts = SETS[name]
    for split, count in zip(("train", "test"), counts, strict=True):
        images = load(split)
        assert images.shape == (count, *shape)
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert 0.85 < images.max() <= 1  # a set left in 0 ... 255, or divided twice, would show here


@pytest.mark.parametrize("name", SETS)
def test_count_takes_images_spread_evenly_over_the_split(name):
    load, *_ = SETS[name]
    images = load("test")
    positions = [
        [int((images == one).all(dim=(1, 2, 3)).nonzero()[0]) for one in load("test", count=c)]
        for c in (1, 7)
    ]
    assert positions[0] == [len(images) // 2]
    steps = np.diff([-len(images) / 14, *positions[1], len(images) * (1 + 1 / 14)])
    assert np.abs(steps - len(images) / 7).max() <= 1
    assert torch.equal(load("test", count=len(images)), images)


@pytest.mark.parametrize("name", SETS)
def test_bad_split_and_count_are_refused(name):
    load, _, _, available = SETS[name]
    with pytest.raises(ValueError, match="split must be.*'validation'"):
        load("validation")
    with pytest.raises(ValueError, match=f"count is {available + 1}.*{available} images"):
        load("test", count=available + 1)
    for count in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="count must be a positive whole number"):
            load("test", count=count)


@pytest.mark.parametrize(("load", "file", "values", "ids"), [
    (datasets.faces, "images/faces.npz", "images", "person"),
    (datasets.ct_slices, "images/ct.npz", "code", "scan"),
])  # fmt: skip
def test_no_person_and_no_scan_is_in_both_splits(load, file, values, ids):
    arrays = store.load_arrays(file)
    owner = {}
    for image, who in zip(arrays[values], arrays[ids], strict=True):
        owner.setdefault(image.tobytes(), set()).add(who)
    seen = {}
    for split in ("train", "test"):
        scale = 255 if file == "images/faces.npz" else 256
        stored = (load(split)[:, 0] * scale).round().to(torch.uint8).numpy()
        seen[split] = set().union(*(owner[image.tobytes()] for image in stored))
    assert not seen["train"] & seen["test"]
    assert seen["train"] | seen["test"] == set(arrays[ids])


def test_ct_values_are_the_stored_hounsfield_units():
    arrays = store.load_arrays("images/ct.npz")
    hounsfield = arrays["code"][arrays["scan"] == "pyradiomics-lung1"] * 8.0 - 1024
    x = datasets.ct_slices("test")
    assert torch.equal(datasets.to_hounsfield(x)[:, 0], torch.from_numpy(hounsfield).float())
    assert datasets.to_hounsfield(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1024, 0, 1024]


@pytest.fixture
def larger(tmp_path, monkeypatch):
    """A folder IR_DATA_DIR with small files in the form of the larger sets; pixel values tell whose it is."""
    ids = np.array([f"P{i:02d}" for i in (3, 9, 0, 4, 7, 1, 8, 2, 6, 5, 3, 0, 10)])
    number = np.array([int(i[1:]) for i in ids])
    faces = np.broadcast_to(10 * number[:, None, None, None], (13, 64, 64, 3)).astype(np.uint8).copy()
    faces[..., 2] = 255
    np.savez(tmp_path / "faces_congress64.npz", images=faces, bioguide=ids, is_grey=np.zeros(13, bool))
    hu = np.broadcast_to(100 * number[:, None, None], (13, 256, 256)).astype(np.int16).copy()
    hu[:, 0, 0], hu[:, 0, 1] = -3000, 3000
    np.savez(tmp_path / "ct_tcia256.npz", hu=hu, patient=ids)
    digits = {"x_train": np.full((6, 28, 28), 51, np.uint8), "x_test": np.full((3, 28, 28), 255, np.uint8)}
    np.savez(tmp_path / "mnist.npz", **digits, y_train=np.zeros(6, np.uint8), y_test=np.zeros(3, np.uint8))
    monkeypatch.setenv("IR_DATA_DIR", str(tmp_path))
    return tmp_path


def test_larger_sets_are_split_by_id(larger):
    for split, expected in {"test": [0, 5, 0, 10], "train": [3, 9, 4, 7, 1, 8, 2, 6, 3]}.items():
        faces = datasets.faces(split, full=True)
        assert faces.shape == (len(expected), 3, 64, 64)
        assert sorted((faces[:, 0, 5, 5] * 25.5).round().int().tolist()) == sorted(expected)
        assert (faces[:, 2] == 1).all()
        slices = datasets.ct_slices(split, full=True)
        assert slices.shape == (len(expected), 1, 256, 256)
        assert sorted((datasets.to_hounsfield(slices[:, 0, 5, 5]) / 100).int().tolist()) == sorted(expected)
        assert (slices[:, 0, 0, 0] == 0).all()
        assert (slices[:, 0, 0, 1] == 1).all()
    assert datasets.digits("train", full=True).shape == (6, 1, 28, 28)
    assert (datasets.digits("test", full=True, count=2) == 1).all()


@pytest.mark.parametrize("load", [datasets.faces, datasets.ct_slices])
@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_larger_set_that_is_not_there_is_explained(load, folder, tmp_path, monkeypatch):
    if folder is None:
        monkeypatch.delenv("IR_DATA_DIR", raising=False)
        state = "IR_DATA_DIR is not set"
    else:
        monkeypatch.setenv("IR_DATA_DIR", str(tmp_path))
        state = "IR_DATA_DIR is .* without"
    source = "Government Publishing Office" if load is datasets.faces else "Cancer Imaging Archive.*idc-index"
    with pytest.raises(store.DataError, match=f"{source}.*{state}.*set IR_DATA_DIR"):
        load("train", full=True)


def test_ellipses_are_varied_in_range_and_stable():
    five = datasets.ellipses(5, 48, seed=3)
    assert five.shape == (5, 1, 48, 48)
    assert five.dtype == torch.float32
    assert torch.equal(datasets.ellipses(3, 48, seed=3), five[:3])
    assert not torch.equal(datasets.ellipses(5, 48, seed=4), five)
    assert five.min() >= 0
    assert five.max() <= 1
    for image in five[:, 0]:
        assert image[0, 0] == image[-1, -1] == 0  # the background is empty
        assert 0.3 < (image > 0).float().mean() < 0.8
        assert len(image.unique()) > 5
    assert torch.cdist(five.flatten(1), five.flatten(1)).add(torch.eye(5) * 99).min() > 1


def test_ellipses_show_the_same_scene_at_any_size():
    coarse, fine = datasets.ellipses(4, 64), datasets.ellipses(4, 256)
    averaged = torch.nn.functional.avg_pool2d(fine, 4)
    # Only pixels on an edge can differ, by up to a step of grey.
    assert (coarse - averaged).abs().median() < 1e-6
    assert (coarse - averaged).abs().mean() < 0.02


@pytest.mark.parametrize("arguments", [(0,), (2.0,), (2, 0), (2, "64")])
def test_ellipses_refuse_bad_sizes(arguments):
    with pytest.raises(ValueError, match="positive whole number"):
        datasets.ellipses(*arguments)


def test_noise_has_the_stated_norm_for_each_sample():
    y = torch.tensor([1e-3, 1.0, 50.0]).reshape(3, 1, 1, 1) * torch.rand(3, 1, 100, 100, generator=seeded(0))
    noise = datasets.with_noise(y, 0.1) - y
    ratio = noise.flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    # The norm of n normal numbers has a relative spread of 1 / sqrt(2 n); five of these, n = 10,000.
    assert (ratio / 0.1 - 1).abs().max() < 5 / math.sqrt(2 * 10_000)


def test_noise_is_white_and_normal():
    y = torch.ones(1, 1, 200, 200, dtype=torch.float64)
    noise = (datasets.with_noise(y, 1.0, seed=5) - y)[0, 0]
    spread = 1 / math.sqrt(noise.numel())
    assert noise.mean().abs() < 5 * spread
    assert (noise[1:] * noise[:-1]).mean().abs() < 5 * spread
    assert (noise[:, 1:] * noise[:, :-1]).mean().abs() < 5 * spread
    assert (noise**4).mean() == pytest.approx(3, abs=5 * math.sqrt(96) * spread)  # Var(z^4) = 105 - 9


def test_noise_keeps_type_and_seed_and_lets_gradients_pass():
    y = torch.rand(2, 10, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    noisy = datasets.with_noise(y, 0.2, seed=1)
    assert noisy.dtype == torch.float64
    assert torch.equal(noisy, datasets.with_noise(y, 0.2, seed=1))
    assert not torch.equal(noisy, datasets.with_noise(y, 0.2, seed=2))
    assert torch.equal(datasets.with_noise(y, 0), y)
    noisy.sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y))


def test_noise_refuses_bad_input():
    y = torch.ones(2, 3)
    for level in (-0.1, math.nan, math.inf, "0.1"):
        with pytest.raises(ValueError, match="relative_level"):
            datasets.with_noise(y, level)
    with pytest.raises(ValueError, match="NaN"):
        datasets.with_noise(torch.tensor([[1.0, math.nan]]), 0.1)
    for wrong in (torch.ones(2, 3, dtype=torch.int64), np.ones((2, 3)), [1.0]):
        with pytest.raises(TypeError, match="y must be"):
            datasets.with_noise(wrong, 0.1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def row_means(x):
    """A toy scanner: one horizontal ray through each row, length 1 inside the image."""
    return x.mean(dim=3)


@pytest.mark.parametrize(("photons", "field_of_view_mm"), [(1e6, 200.0), (1e7, 350.0)])
def test_low_dose_is_unbiased_with_the_variance_of_beer_and_poisson(photons, field_of_view_mm):
    """Rows of air, lung, water and bone, against numbers written out here: mu of water 0.0192 per mm."""
    hounsfield = torch.tensor([-1000.0, -700.0, 0.0, 800.0])
    x = ((hounsfield + 1024) / 2048).reshape(1, 1, 4, 1).expand(4000, 1, 4, 4)
    y = datasets.low_dose(row_means, x, photons, seeded(0), field_of_view_mm=field_of_view_mm)
    integrals = 0.0192 * field_of_view_mm * (1 + hounsfield / 1000)
    # Delta method: Var(log N) = 1 / E[N]; from p to y divide by dp/dy = 0.0192 L 2048 / 1000.
    deviation = torch.exp(integrals / 2) / math.sqrt(photons) / (0.0192 * field_of_view_mm * 2.048)
    measured = y[:, 0]
    # E[log N] is too small by 1 / (2 E[N]) to second order, which makes p too large.
    bias = torch.exp(integrals) / photons / 2 / (0.0192 * field_of_view_mm * 2.048)
    error = measured.mean(dim=0) - row_means(x)[0, 0] - bias
    assert (error.abs() < 5 * deviation / math.sqrt(4000)).all()
    assert ((measured.std(dim=0) / deviation - 1).abs() < 5 / math.sqrt(2 * 4000) + 0.01).all()


def test_low_dose_tends_to_the_clean_measurement_of_a_scanner():
    A = operators.parallel_beam(image_size=32, num_angles=20)
    x = datasets.ellipses(2, 32)
    clean = A(x)
    error = [(datasets.low_dose(A, x, n, seeded(0)) - clean).abs().max().item() for n in (1e4, 1e8, 1e12)]
    # Noise falls with the square root of the dose; at 1e12 float32 of the clean data is what remains.
    assert 30 < error[0] / error[1] < 300
    assert error[2] < 1e-5
    assert datasets.low_dose(A, x, 1e5, seeded(0)).shape == clean.shape


def test_low_dose_replaces_a_count_of_zero_by_half():
    x = torch.full((1, 1, 4, 4), 0.5)
    y = datasets.low_dose(row_means, x, 1e-9, seeded(0))
    integral = -math.log(0.5 / 1e-9)
    expected = (integral / (0.0192 * 350) + 0.024) / 2.048
    assert y.flatten().tolist() == pytest.approx([expected] * 4, rel=1e-5)


def test_low_dose_depends_on_the_generator_only():
    x = torch.rand(2, 1, 8, 8, generator=seeded(1))
    one, again = (datasets.low_dose(row_means, x, 1e4, seeded(0)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, datasets.low_dose(row_means, x, 1e4, seeded(1)))
    assert one.dtype == torch.float32


def test_low_dose_refuses_bad_input():
    x = torch.rand(1, 1, 4, 4, generator=seeded(1))
    for photons in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="photons"):
            datasets.low_dose(row_means, x, photons, seeded(0))
    with pytest.raises(ValueError, match="field_of_view_mm"):
        datasets.low_dose(row_means, x, 1e4, seeded(0), field_of_view_mm=0)
    with pytest.raises(TypeError, match="generator must be a torch.Generator, not int"):
        datasets.low_dose(row_means, x, 1e4, 0)
    with pytest.raises(TypeError, match="x must be"):
        datasets.low_dose(row_means, x.int(), 1e4, seeded(0))
    with pytest.raises(ValueError, match="x has NaN"):
        datasets.low_dose(row_means, x * math.nan, 1e4, seeded(0))
