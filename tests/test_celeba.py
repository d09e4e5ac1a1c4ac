"""Faces from a folder in CelebA's layout: generated images, against values computed here from what was written."""

import numpy as np
import pytest
import torch
from PIL import Image

from ir_helpers import datasets, store


def write(folder, figures, picture=None):
    """Write CelebA's layout: the image of number k shows the colour (5 k, 0, 255 − 5 k), and figures[k] is its split."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    for k in range(len(figures)):
        pixels = np.full((218, 178, 3), [5 * k, 0, 255 - 5 * k], np.uint8) if picture is None else picture
        Image.fromarray(pixels).save(images / f"{k:06d}.jpg", quality=95)
    lines = [f"{k:06d}.jpg {figure}\n" for k, figure in enumerate(figures)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


def numbers(faces):
    """Which images these are, by their colour, seen in red and in blue."""
    red, blue = 51 * faces[:, 0].mean((1, 2)), 51 * (1 - faces[:, 2].mean((1, 2)))
    assert (
        red - blue
    ).abs().max() < 0.5  # JPEG rounds colours by a step or two of 255; images differ by five
    return ((red + blue) / 2).round().int().tolist()


def averaged(image, size=64):
    """Average over size x size areas: repeat every pixel until the areas are whole numbers of copies."""
    for _ in range(2):
        image = np.repeat(image, 16, axis=0)  # 16 · 148 = 37 · 64
        image = image.reshape(size, 37, image.shape[1]).mean(axis=1).T
    return image


FIGURES = [0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", [0, 2, 4, 5, 8, 9, 10, 13]), ("validation", [3, 7, 12]), ("test", [1, 6, 11])],
)
def test_the_published_partition_is_kept(tmp_path, split, expected):
    faces = datasets.faces(split, source=str(write(tmp_path, FIGURES)))
    assert faces.shape == (len(expected), 3, 64, 64) and faces.dtype == torch.float32
    assert numbers(faces) == expected
    assert faces.min() >= 0 and faces.max() <= 1


def test_areas_of_the_square_around_the_face_are_averaged(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    write(tmp_path, [2], picture)
    with Image.open(tmp_path / "img_align_celeba/000000.jpg") as image:
        pixels = np.asarray(image) / 255.0
    face = datasets.faces("test", source=tmp_path)[0].numpy()
    for channel in range(3):
        expected = averaged(pixels[40:188, 15:163, channel])
        assert np.abs(face[channel] - expected).max() < 1e-6  # float32 of numbers up to 1


def test_count_takes_faces_spread_evenly_and_opens_no_other_file(tmp_path):
    write(tmp_path, [0] * 30)
    for k in set(range(30)) - {5, 15, 25}:
        (tmp_path / f"img_align_celeba/{k:06d}.jpg").unlink()
    assert numbers(datasets.faces("train", count=3, source=tmp_path)) == [5, 15, 25]
    with pytest.raises(store.DataError, match=r"000002\.jpg is missing, .*list_eval_partition\.txt names it"):
        datasets.faces("train", count=6, source=tmp_path)
    with pytest.raises(ValueError, match="count is 31.*30 images"):
        datasets.faces("train", count=31, source=tmp_path)


def test_a_square_of_eyes_keeps_its_place_and_orientation(tmp_path):
    """In CelebA's aligned images eyes are in row 111, columns 69 and 108: a third from the sides, half way down."""
    picture = np.full((218, 178, 3), 200, np.uint8)
    picture[107:115, 65:73] = picture[107:115, 104:112] = 0
    picture[190:] = picture[:40] = 0  # outside of the square
    face = datasets.faces("test", source=write(tmp_path, [2], picture))[0].mean(0)
    rows, columns = torch.nonzero(face < 0.3, as_tuple=True)
    assert (rows.min(), rows.max()) == (29, 31)
    assert sorted(set(columns.tolist())) == [22, 23, 24, 39, 40, 41]


# --- what can be wrong ---


def test_another_folder_is_explained(tmp_path):
    whole = write(tmp_path / "celeba", [2])
    for folder in (tmp_path / "nothing", tmp_path, whole / "img_align_celeba"):
        with pytest.raises(
            store.DataError, match=r"source .* must be a folder with img_align_celeba/ and list_eval"
        ):
            datasets.faces("test", source=folder)
    (tmp_path / "images lack").mkdir()
    (tmp_path / "images lack" / "list_eval_partition.txt").write_text("000000.jpg 2\n")
    with pytest.raises(store.DataError, match="must be a folder with img_align_celeba/"):
        datasets.faces("test", source=tmp_path / "images lack")
    (whole / "list_eval_partition.txt").unlink()
    with pytest.raises(store.DataError, match=r"must be a folder with .*list_eval_partition\.txt"):
        datasets.faces("test", source=whole)
    with pytest.raises(TypeError, match="source must be a str or a pathlib.Path, got int"):
        datasets.faces("test", source=3)


@pytest.mark.parametrize(
    "line",
    ["000001.jpg", "000001.jpg 3", "000001.jpg -1", "000001.jpg 1 2", "", "<!DOCTYPE html>", "\x00\x01"],
)
def test_a_malformed_line_is_named(tmp_path, line):
    write(tmp_path, [2, 2, 2])
    (tmp_path / "list_eval_partition.txt").write_text(f"000000.jpg 2\n{line}\n000002.jpg 2\n")
    with pytest.raises(store.DataError, match=r"list_eval_partition\.txt, line 2 is .*'000001\.jpg 0'"):
        datasets.faces("test", source=tmp_path)


def test_a_list_that_is_no_text_is_refused(tmp_path):
    write(tmp_path, [2])
    (tmp_path / "list_eval_partition.txt").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    with pytest.raises(store.DataError, match="line 1 is"):
        datasets.faces("test", source=tmp_path)


def test_a_split_without_images_is_named(tmp_path):
    write(tmp_path, [0, 0])
    with pytest.raises(store.DataError, match=r"names no image of split 'validation' \(1\)"):
        datasets.faces("validation", source=tmp_path)


@pytest.mark.parametrize("damage", ["cut off", "no JPEG", "empty", "a folder"])
def test_a_broken_image_is_named(tmp_path, damage):
    path = write(tmp_path, [2, 2]) / "img_align_celeba/000001.jpg"
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"cut off": content[: len(content) // 2], "no JPEG": b"a picture", "empty": b""}[damage]
        )
    text = r"000001\.jpg is missing" if damage == "a folder" else r"could not read .*000001\.jpg: .*Unpack"
    with pytest.raises(store.DataError, match=text):
        datasets.faces("test", source=tmp_path)


@pytest.mark.parametrize("shape", [(178, 218, 3), (218, 178), (250, 250, 3)])
def test_an_image_that_is_not_aligned_is_refused(tmp_path, shape):
    write(tmp_path, [2], np.zeros(shape, np.uint8))
    text = rf"000000\.jpg has {shape[1]} x {shape[0]} pixels \({'RGB' if len(shape) == 3 else 'L'}\), not 178 x 218"
    with pytest.raises(store.DataError, match=text):
        datasets.faces("test", source=tmp_path)


def test_arguments_are_checked(tmp_path):
    write(tmp_path, FIGURES)
    for split in ("valid", 0, None):
        with pytest.raises(ValueError, match=f'split must be "train", "validation" or "test", got {split!r}'):
            datasets.faces(split, source=tmp_path)
    with pytest.raises(ValueError, match="full=True came with source=.*pass one of them"):
        datasets.faces("test", full=True, source=tmp_path)
    with pytest.raises(ValueError, match="count must be a positive whole number"):
        datasets.faces("test", count=0, source=tmp_path)
