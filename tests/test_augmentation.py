"""Flips and shifts: views that were whole images before, each as often as it should be."""

import numpy as np
import pytest
import torch

from ir_helpers import datasets


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, dtype=torch.float32):
    return torch.rand(*shape, generator=seeded(7), dtype=dtype)


def view(image, down, right, mirrored):
    """The view by hand: mirror, then move, with the edge repeated."""
    image = np.flip(image, 2) if mirrored else image
    grown = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode="edge")
    height, width = image.shape[1:]
    return grown[:, 9 - down : 9 - down + height, 9 - right : 9 - right + width]


def views_of(image, count, *, shift=2, seed=0):
    """Which views of one image were drawn, as (down, right, mirrored)."""
    batch = torch.from_numpy(image).expand(count, *image.shape)
    drawn = datasets.flip_and_shift(batch, seeded(seed), shift=shift).numpy()
    steps = range(-shift, shift + 1)
    known = {view(image, d, r, m).tobytes(): (d, r, m) for d in steps for r in steps for m in (False, True)}
    assert len(known) == 2 * len(steps) ** 2  # all different, or the question has no answer
    return [known[one.tobytes()] for one in drawn]


@pytest.mark.parametrize("shift", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 11)])
def test_each_view_is_a_mirrored_and_shifted_image_and_equally_likely(shape, shift):
    count = 200 * (2 * shift + 1) ** 2
    found = views_of(random_images(*shape).numpy(), count, shift=shift)
    kinds = 2 * (2 * shift + 1) ** 2
    seen = np.unique(found, axis=0, return_counts=True)[1]
    assert len(seen) == kinds
    # Each of the kinds is seen 100 times on average, with a spread of at most 10; five of these.
    assert np.abs(seen - count / kinds).max() < 50


def test_images_of_a_batch_are_treated_apart():
    found = views_of(random_images(1, 8, 8).numpy(), 500)
    for one, other in (
        (0, 1),
        (0, 2),
        (1, 2),
    ):  # down, right and mirrored of an image know nothing of each other ...
        assert abs(np.corrcoef(np.array(found)[:, [one, other]].T)[0, 1]) < 5 / np.sqrt(500)
    shifted = np.array(found, float)
    for k in range(3):  # ... nor of the next image
        assert abs(np.corrcoef(shifted[1:, k], shifted[:-1, k])[0, 1]) < 5 / np.sqrt(499)


def test_mirrored_twice_is_the_image():
    images = random_images(16, 3, 8, 10)
    once = datasets.flip_and_shift(images, seeded(), shift=0)
    assert torch.equal(datasets.flip_and_shift(once, seeded(), shift=0), images)
    assert not torch.equal(once, images)


def test_the_generator_decides_and_the_images_stay():
    images = random_images(6, 3, 8, 8)
    before = images.clone()
    first, again, other = (datasets.flip_and_shift(images, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = seeded()
    calls = [datasets.flip_and_shift(images, generator) for _ in range(2)]
    assert torch.equal(calls[0], first) and not torch.equal(calls[1], first)
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_view_keeps_shape_and_type(dtype):
    found = datasets.flip_and_shift(random_images(4, 3, 6, 8).to(dtype), seeded())
    assert found.shape == (4, 3, 6, 8) and found.dtype == dtype and found.is_contiguous()


@pytest.mark.parametrize("shift", [-1, 1.0, True, 8, "2"])
def test_bad_shifts_are_refused(shift):
    with pytest.raises(ValueError, match="shift must be a whole number from 0 to 7"):
        datasets.flip_and_shift(random_images(1, 1, 8, 9), seeded(), shift=shift)


def test_bad_images_and_generators_are_refused():
    with pytest.raises(ValueError, match=r"images must have shape \(B, C, H, W\), got \(2, 8, 8\)"):
        datasets.flip_and_shift(random_images(2, 8, 8), seeded())
    with pytest.raises(TypeError, match="images must be .*uint8"):
        datasets.flip_and_shift(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), seeded())
    with pytest.raises(TypeError, match="generator must be a torch.Generator, got int"):
        datasets.flip_and_shift(random_images(1, 1, 8, 8), 0)
