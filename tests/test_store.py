"""The store refuses what it cannot vouch for, and gives back what was put in."""

import os
import shutil

import numpy as np
import pytest
import torch

from ir_helpers import store

HEADER = "| file | content | source | licence | recipe | seed | sha256 |\n|---|---|---|---|---|---|---|\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder in place of the real one, with a function that lists a file in its manifest."""
    monkeypatch.setattr(store, "DATA", tmp_path)
    (tmp_path / "README.md").write_text("# Data\n\n" + HEADER)

    def enlist(name, recipe="make-it"):
        digest = store.sha256(tmp_path / name)
        with open(tmp_path / "README.md", "a") as file:
            file.write(f"| `{name}` | some arrays | a source | a licence | `{recipe}` | 0 | `{digest}` |\n")

    return tmp_path, enlist


def test_manifest_has_one_clean_row_per_file(folder):
    path, enlist = folder
    np.savez(path / "a.npz", a=np.arange(3))
    enlist("a.npz")
    with open(path / "README.md", "a") as file:
        file.write("\nText below, and another table:\n\n| x | y |\n|---|---|\n| 1 | 2 |\n")
    table = store.manifest()
    assert list(table.columns) == ["file", "content", "source", "licence", "recipe", "seed", "sha256"]
    assert table["file"].tolist() == ["a.npz"]
    assert table["recipe"].tolist() == ["make-it"]
    assert table["sha256"].tolist() == [store.sha256(path / "a.npz")]


@pytest.mark.parametrize("text", ["# Data\n", HEADER + "| `a` | b |\n"])
def test_manifest_refuses_a_broken_table(folder, text):
    path, _ = folder
    (path / "README.md").write_text(text)
    with pytest.raises(store.DataError, match="table"):
        store.manifest()


def test_manifest_says_how_to_install_when_there_is_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "DATA", tmp_path / "nowhere")
    with pytest.raises(store.DataError, match="pip install -e"):
        store.manifest()


def test_a_file_that_is_not_listed_is_refused(folder):
    path, _ = folder
    np.savez(path / "a.npz", a=np.arange(3))
    with pytest.raises(store.DataError, match=r"a\.npz is not listed"):
        store.load_arrays("a.npz")


def test_a_file_that_changes_after_it_was_checked_is_refused(folder):
    path, enlist = folder
    np.savez(path / "a.npz", a=np.arange(3))
    enlist("a.npz")
    assert store.load_arrays("a.npz")["a"].tolist() == [0, 1, 2]
    np.savez(path / "a.npz", a=np.arange(4))
    with pytest.raises(store.DataError, match=r"git checkout -- data/a\.npz.*recipes run make-it"):
        store.load_arrays("a.npz")


def test_a_file_is_hashed_once(folder, monkeypatch):
    path, enlist = folder
    np.savez(path / "a.npz", a=np.arange(3))
    enlist("a.npz")
    calls = []
    real = store.sha256
    monkeypatch.setattr(store, "sha256", lambda name: calls.append(name) or real(name))
    for _ in range(3):
        store.checked("a.npz")
    assert len(calls) == 1


def test_pickled_objects_are_refused(folder):
    path, enlist = folder
    np.savez(path / "a.npz", a=np.array([{"an": "object"}], dtype=object))
    enlist("a.npz")
    with pytest.raises(store.DataError, match=r"a\.npz .* holds Python objects"):
        store.load_arrays("a.npz")


def test_load_table_reads_a_checked_csv(folder):
    path, enlist = folder
    (path / "results").mkdir()
    (path / "results" / "curve.csv").write_text("method,radius,error\nplain,0.5,1.25\n")
    with pytest.raises(store.DataError, match="not listed"):
        store.load_table("curve")
    enlist("results/curve.csv")
    assert store.load_table("curve").to_dict("records") == [{"method": "plain", "radius": 0.5, "error": 1.25}]


def test_weights_come_back_as_float32_rounded_to_half_precision(folder):
    path, enlist = folder
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 7, generator=generator)
    tensors = {"weight": weight, "view": weight.T[1:], "steps": torch.tensor(70_001)}
    written = store.save_weights("mnist/plain", tensors, {"epochs": "3"})
    assert written == path / "weights" / "mnist" / "plain.safetensors"
    enlist("weights/mnist/plain.safetensors")
    loaded, metadata = store.load_weights("mnist/plain")
    assert metadata == {"epochs": "3"}
    assert loaded["weight"].dtype == torch.float32
    assert torch.equal(loaded["weight"], weight.half().float())
    assert torch.equal(loaded["view"], weight.T[1:].half().float())
    assert loaded["steps"].dtype == torch.int64
    assert loaded["steps"] == 70_001


def test_weights_of_your_own_need_no_manifest(tmp_path):
    path = tmp_path / "mine.safetensors"
    store.save_weights(path, {"w": torch.ones(2)}, {})
    tensors, metadata = store.load_weights(path)
    assert tensors["w"].tolist() == [1, 1]
    assert metadata == {}


def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    store.save_weights(path, {"w": torch.ones(2)}, {})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save_weights(path, {"w": torch.zeros(2)}, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.safetensors"]
    assert store.load_weights(path)[0]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("value", [1e6, float("inf"), float("nan")])
def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"tensors\['w'\].*float16"):
        store.save_weights(tmp_path / "mine.safetensors", {"w": torch.tensor([1.0, value])}, {})
    assert not list(tmp_path.iterdir())


def test_weights_name_and_metadata_types(tmp_path):
    with pytest.raises(TypeError, match="metadata"):
        store.save_weights(tmp_path / "mine.safetensors", {"w": torch.ones(1)}, {"epochs": 3})
    with pytest.raises(TypeError, match="name must be"):
        store.load_weights(3)


@pytest.mark.parametrize(("value", "expected"), [("1", 2), ("0", 100), ("", 100), (None, 100)])
def test_budget_is_small_only_when_asked(monkeypatch, value, expected):
    if value is None:
        monkeypatch.delenv("IR_FAST", raising=False)
    else:
        monkeypatch.setenv("IR_FAST", value)
    assert store.budget(100, 2) == expected


@pytest.mark.parametrize("name", ["images/digits.npz", "images/faces.npz", "images/ct.npz"])
def test_shipped_files_are_refused_when_altered_or_missing(name, tmp_path, monkeypatch):
    copy = tmp_path / "data"
    shutil.copytree(store.DATA, copy)
    monkeypatch.setattr(store, "DATA", copy)
    store.checked(name)
    recipe = name.removesuffix(".npz").replace("/", "-")
    commands = f"git checkout -- data/{name}.*python -m ir_helpers.recipes run {recipe}"
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(store.DataError, match=f"data/{name} was altered.*{commands}"):
        store.load_arrays(name)
    (copy / name).unlink()
    with pytest.raises(store.DataError, match=f"data/{name} is missing.*{commands}"):
        store.load_arrays(name)
