"""Checkpoints give back what was saved, and never less than the last whole state, whatever happens to the files."""

import os

import pytest
import torch
from safetensors.torch import save_file

from ir_helpers import checkpoints
from ir_helpers.store import DataError


def same(a, b):
    """Equal values and types, tensors to the last bit; a list stands for a tuple, as in JSON."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def state_of(number):
    return {"number": number, "weights": {"w": torch.full((3, 2), float(number))}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "mine.safetensors"


def files(path):
    return sorted(entry.name for entry in path.parent.iterdir())


# ---- round trips


def test_a_nested_state_comes_back(path):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(4, 5, generator=generator)
    state = {
        "double": weights.double() / 3,
        "nested": {"half": weights.half(), "brain": weights.bfloat16(), "deeper": {"view": weights.T[::2]}},
        "numbers": {0: torch.tensor(3), 1: torch.tensor([True, False]), 7: torch.zeros(0, 3)},
        "plain": {"third": 1 / 3, "tiny": 5e-324, "big": 2**70, "none": None, "yes": True, "text": "a/b — ü"},
        "lists": [1, 2.5, [None, "x"], {"epoch": 1, "loss": 0.1}],
        "pair": (0.9, 0.999),
        "empty": {},
    }
    checkpoints.save(path, state)
    loaded = checkpoints.load(path)
    assert same(state, loaded)
    # The loaded tensors are the caller's own: changing them changes no file.
    loaded["double"].zero_()
    assert same(state, checkpoints.load(path))
    assert files(path) == ["mine.safetensors"]


def test_infinite_and_undefined_numbers_come_back(path):
    values = torch.tensor([float("nan"), float("inf"), -0.0])
    checkpoints.save(path, {"tensor": values, "number": float("inf")})
    loaded = checkpoints.load(path)
    assert torch.equal(loaded["tensor"].view(torch.int32), values.view(torch.int32))
    assert loaded["number"] == float("inf")


def optimiser_and_weights(seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    return net, torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)


def step(net, optimiser, k):
    optimiser.zero_grad()
    net(torch.randn(6, 5, generator=torch.Generator().manual_seed(k))).square().sum().backward()
    optimiser.step()


def test_an_optimiser_goes_on_to_the_same_bits(path):
    net, optimiser = optimiser_and_weights(0)
    for k in range(3):
        step(net, optimiser, k)
    checkpoints.save(path, {"network": net.state_dict(), "optimiser": optimiser.state_dict()})
    other_net, other_optimiser = optimiser_and_weights(1)
    state = checkpoints.load(str(path))
    other_net.load_state_dict(state["network"])
    other_optimiser.load_state_dict(state["optimiser"])
    for k in range(3, 6):
        step(net, optimiser, k), step(other_net, other_optimiser, k)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other_net.parameters(), strict=True))
    assert same(optimiser.state_dict(), other_optimiser.state_dict())


def test_the_tensors_saved_are_left_alone(path):
    weights = torch.ones(2, 2, requires_grad=True)
    state = {"w": weights, "shared": weights}
    checkpoints.save(path, state)
    assert state["w"] is weights and weights.requires_grad
    loaded = checkpoints.load(path)
    assert not loaded["w"].requires_grad
    assert loaded["w"].data_ptr() != loaded["shared"].data_ptr()


@pytest.mark.parametrize(
    "state",
    [{"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, {1: torch.zeros(1), "1": torch.ones(1)}],
    ids=["slash", "number and text"],
)
def test_keys_that_look_alike_stay_apart(path, state):
    checkpoints.save(path, state)
    assert same(state, checkpoints.load(path))


def test_no_checkpoint_is_no_error(path):
    assert checkpoints.load(path) is None
    checkpoints.save(path, state_of(1))
    assert checkpoints.load(path.with_name("other.safetensors")) is None


# ---- the one before


def test_the_last_two_states_are_kept(path):
    for number in range(4):
        checkpoints.save(path, state_of(number))
    assert files(path) == ["mine.previous.safetensors", "mine.safetensors"]
    assert checkpoints.previous(path) == path.with_name("mine.previous.safetensors")
    assert same(state_of(3), checkpoints.load(path))
    assert same(state_of(2), checkpoints.load(checkpoints.previous(path)))


def flipped(content, position):
    """One bit changed, counted from the beginning or from the end."""
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


DAMAGE = {
    "first byte": lambda content: flipped(content, 0),
    "length of the header": lambda content: flipped(content, 7),
    "a byte of the header": lambda content: flipped(content, 30),
    "the number in the text": lambda content: content.replace(b'\\"value\\": 2}', b'\\"value\\": 3}'),
    "the name of a tensor": lambda content: content.replace(b"/weights/w", b"/weights/v"),
    "the shape of a tensor": lambda content: content.replace(b"[3,2]", b"[2,3]"),
    "a byte of a tensor": lambda content: flipped(content, -5),
    "last byte": lambda content: flipped(content, -1),
    "cut in the tensors": lambda content: content[:-4],
    "cut in the header": lambda content: content[:50],
    "longer": lambda content: content + b"\0\0\0\0",
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"not a checkpoint at all, but long enough",
}


def damage(path, how):
    content = path.read_bytes()
    changed = DAMAGE[how](content)
    assert changed != content
    path.write_bytes(changed)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named_and_the_one_before_is_used(path, how):
    checkpoints.save(path, state_of(1))
    checkpoints.save(path, state_of(2))
    damage(path, how)
    text = r"damaged checkpoint \S*mine\.safetensors .*going on from \S*mine\.previous"
    with pytest.warns(UserWarning, match=text):
        assert same(state_of(1), checkpoints.load(path))


@pytest.mark.parametrize("how", DAMAGE)
def test_two_damaged_files_are_both_named(path, how):
    checkpoints.save(path, state_of(2))
    checkpoints.save(path, state_of(2))
    damage(path, how), damage(checkpoints.previous(path), how)
    with pytest.raises(DataError, match=r"mine\.safetensors .*mine\.previous\.safetensors .*delete"):
        checkpoints.load(path)


def test_a_damaged_file_without_one_before_is_an_error(path):
    # Not None: a run that begins anew would be taken for the one that went on.
    checkpoints.save(path, state_of(2))
    damage(path, "a byte of a tensor")
    with pytest.raises(DataError, match=r"mine\.safetensors \(.*hash"):
        checkpoints.load(path)


def test_a_damaged_file_before_does_not_matter(path, recwarn):
    checkpoints.save(path, state_of(2))
    checkpoints.save(path, state_of(2))
    damage(checkpoints.previous(path), "empty")
    assert same(state_of(2), checkpoints.load(path))
    assert not recwarn


def test_a_file_of_something_else_is_not_taken_for_a_checkpoint(path):
    path.parent.mkdir()
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(DataError, match=r"mine\.safetensors"):
        checkpoints.load(path)


def test_a_file_of_something_else_is_not_advised_to_be_deleted(path):
    path.parent.mkdir()
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(DataError, match="not a checkpoint") as caught:
        checkpoints.load(path)
    assert "delete" not in str(caught.value)


# ---- interrupted writing


def interrupted(*_, **__):
    raise KeyboardInterrupt


def second_call_interrupted(function):
    calls = []

    def replacement(*arguments):
        calls.append(arguments)
        return function(*arguments) if len(calls) == 1 else interrupted()

    return replacement


@pytest.mark.parametrize("moment", ["writing", "reaching the disk", "first renaming", "second renaming"])
def test_an_interrupted_save_loses_nothing_but_itself(path, monkeypatch, moment):
    checkpoints.save(path, state_of(1))
    checkpoints.save(path, state_of(2))
    with monkeypatch.context() as patch:
        if moment == "writing":
            patch.setattr(checkpoints, "save_file", interrupted)
        elif moment == "reaching the disk":
            patch.setattr(os, "fsync", interrupted)
        elif moment == "first renaming":
            patch.setattr(os, "replace", interrupted)
        else:
            patch.setattr(os, "replace", second_call_interrupted(os.replace))
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(path, state_of(3))
    assert same(state_of(2), checkpoints.load(path))
    assert not [name for name in files(path) if name.startswith(".")]  # nothing half-written is left
    checkpoints.save(path, state_of(4))
    assert same(state_of(4), checkpoints.load(path))


def test_an_interrupted_save_after_damage_leaves_the_whole_file(path, monkeypatch):
    checkpoints.save(path, state_of(1))
    checkpoints.save(path, state_of(2))
    damage(path, "a byte of a tensor")
    with pytest.warns(UserWarning, match="damaged"):
        assert same(state_of(1), checkpoints.load(path))
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, state_of(3))
    with pytest.warns(UserWarning, match="damaged"):
        assert same(state_of(1), checkpoints.load(path))


def test_half_a_file_never_has_the_name_of_a_checkpoint(path, monkeypatch):
    checkpoints.save(path, state_of(1))
    seen = []

    def slow(tensors, part, metadata):
        seen.append((part.name, same(state_of(1), checkpoints.load(path))))
        part.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_file", slow)
    with pytest.raises(DataError, match=r"mine\.safetensors: no space left on device.*training\.resume"):
        checkpoints.save(path, state_of(2))
    assert seen[0][0] not in ("mine.safetensors", "mine.previous.safetensors")
    assert seen[0][1]
    assert same(state_of(1), checkpoints.load(path))
    assert files(path) == ["mine.safetensors"]


@pytest.mark.parametrize("value", [object(), [torch.ones(1)], {1, 2}], ids=["object", "tensors", "set"])
def test_a_state_that_cannot_be_kept_leaves_the_old_one(path, value):
    checkpoints.save(path, state_of(1))
    with pytest.raises(TypeError, match="JSON"):
        checkpoints.save(path, {"value": value})
    assert same(state_of(1), checkpoints.load(path))
    assert files(path) == ["mine.safetensors"]


class Launcher:
    """What a pickle would run while it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return self.target.touch, ()


def test_nothing_is_unpickled(path):
    path.parent.mkdir()
    trace = path.with_name("trace")
    torch.save({"a": Launcher(trace)}, path)
    with pytest.raises(DataError):
        checkpoints.load(path)
    assert not trace.exists()
