"""Reconstruction networks: formulas they must equal, what training makes of the linear one, and files that are not trusted."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from toys import matrix_with_spectrum, normal, small_scan

from ir_helpers import adversaries, classical, networks, operators, store, theory, training

GAUSSIAN = {"factory": "gaussian", "num_measurements": 20, "image_shape": [1, 8, 8], "seed": 3}
A = operators.gaussian(20, (1, 8, 8), seed=3)


class Scale(nn.Module):
    """The network that multiplies by one number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        return self.factor * image


def reconstructor(seed=0, operator=A, start="adjoint", **settings):
    torch.manual_seed(seed)
    net = networks.UNet(**({"width": 4, "levels": 2} | settings))
    return networks.Reconstructor(operator, net, start=start).eval()


def linear_reconstructor():
    f = networks.LinearReconstructor(A)
    with torch.no_grad():
        f.matrix.copy_(normal(64, 20))
    return f


# ---- Reconstructor


def test_from_the_adjoint_the_network_makes_the_image():
    f, y = reconstructor(), normal(5, 20, dtype=torch.float32)
    start = (y @ A.matrix()).reshape(5, 1, 8, 8)
    assert torch.allclose(f(y), f.network(start), atol=1e-6)
    assert torch.allclose(networks.Reconstructor(A, Scale(2.0))(y), 2 * start, atol=1e-6)
    assert f.operator is A


def test_filtered_back_projection_is_corrected_by_the_network():
    scan, _, y = small_scan()
    start = classical.fbp(scan, y)
    assert torch.equal(networks.Reconstructor(scan, Scale(0.0).double(), start="fbp")(y), start)
    f = reconstructor(operator=scan.to(torch.float32), start="fbp").double()
    assert torch.allclose(f(y), start + f.network(start), atol=1e-12)
    assert not torch.allclose(f(y), start, atol=1e-3)


@pytest.mark.parametrize("make", [reconstructor, linear_reconstructor], ids=["unet", "linear"])
def test_the_operator_follows_to_another_type(make):
    f, y = make(), normal(5, 20, dtype=torch.float32)
    single = f(y)
    assert f.to(torch.float64) is f
    assert f.operator.dtype == torch.float64
    assert torch.allclose(f(y.double()), single.double(), atol=1e-4)
    assert f.float().operator.dtype == torch.float32
    assert torch.equal(f(y), single)  # float32 numbers, there and back
    assert A.dtype == torch.float32  # operators are immutable: it was another one that moved
    whole = nn.Sequential(f, nn.Flatten()).double()
    assert whole(y.double()).dtype == f.operator.dtype == torch.float64


def test_the_operator_is_no_weight():
    f = reconstructor()
    assert set(f.state_dict()) == {f"network.{name}" for name in f.network.state_dict()}
    assert set(networks.LinearReconstructor(A).state_dict()) == {"matrix"}


def test_gradient_with_respect_to_the_data():
    f, y = reconstructor().double(), normal(2, 20)
    assert torch.autograd.gradcheck(f, y.requires_grad_(), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("start", ["adjoint", "fbp", "adjoint of a dense matrix"])
def test_the_formula_keeps_its_precision_where_layers_do_not(start):
    scan, _, y = small_scan()
    scan, y = scan.to(torch.float32), y.float()
    if start == "adjoint of a dense matrix":  # whose product torch would round
        scan = operators.from_matrix(scan.matrix().to_dense(), scan.image_shape)
        start, y = "adjoint", y.flatten(1)
    f = networks.Reconstructor(scan, Scale(1.0), start=start)
    g = reconstructor(operator=scan, start=start)
    expected, full = f(y), g(y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(f(y), expected)
        mixed = g(y)
    assert mixed.dtype == torch.float32
    network_part = full - expected / 2 if start == "fbp" else full  # f doubles what it starts from
    # bfloat16 has 8 bits, rounded once in each layer.
    assert 0 < (mixed - full).abs().max() < 0.03 * network_part.abs().max()


# ---- LinearReconstructor


def test_linear_reconstructor_is_a_matrix_that_begins_at_zero():
    scan, _, y = small_scan()
    f = networks.LinearReconstructor(scan)
    assert f.matrix.shape == (24 * 24, 12 * 34)
    assert f.matrix.dtype == torch.float64
    assert torch.equal(f(y), torch.zeros(3, 1, 24, 24, dtype=torch.float64))
    with torch.no_grad():
        f.matrix.copy_(normal(*f.matrix.shape))
    expected = np.einsum("nm,bm->bn", f.matrix.detach().numpy(), y.reshape(3, -1).numpy())
    assert np.allclose(f(y).detach().numpy().reshape(3, -1), expected)
    assert [name for name, _ in f.named_parameters()] == ["matrix"]


M = matrix_with_spectrum(np.geomspace(0.2, 1.5, 8), 8, 12)
B = operators.from_matrix(M, (1, 3, 4))


def fitted(x, adversary=None, **settings):
    f = networks.LinearReconstructor(B)
    training.fit(f, B, x.reshape(-1, 1, 3, 4), adversary, batch_size=len(x), **settings)
    return f.matrix.detach()


def best_linear(covariance, noise):
    """The minimiser of E ‖B(Ax + δ) − x‖² for δ of covariance ``noise`` · I, by the normal equations."""
    normal_matrix = M @ covariance @ M.T + noise * torch.eye(8, dtype=torch.float64)
    return covariance @ M.T @ torch.linalg.inv(normal_matrix)


def white_images(count=64):
    """Images of mean zero and covariance I, exactly."""
    half = torch.linalg.qr(normal(count // 2, 12))[0] * math.sqrt(count / 2)
    return torch.cat([half, -half])


def relative_gap(a, b):
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


def test_plain_training_ends_at_least_squares():
    # Images of unequal variance and with a mean, so the answer is not the pseudo-inverse.
    x = normal(40, 12) * torch.linspace(0.5, 2, 12, dtype=torch.float64) + 0.3
    expected = best_linear(x.T @ x / 40, 0.0)
    assert relative_gap(fitted(x, epochs=700, learning_rate=0.1), expected) < 1e-4
    assert relative_gap(torch.linalg.pinv(M), expected) > 0.1


@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_training_with_noise_ends_at_tikhonov(lam):
    # δ uniform on the sphere of radius ε has covariance ε²/m · I, and only the share λ/(1 + λ) of the loss has it.
    epsilon = 1.5
    weight = lam / (1 + lam) * epsilon**2 / 8
    expected = best_linear(torch.eye(12, dtype=torch.float64), weight)
    gains = theory.tikhonov_gains(B.singular_values().numpy(), weight)
    assert np.allclose(theory.robust_inverse(M.numpy(), gains), expected.numpy())
    found = fitted(white_images(), adversaries.Noise(epsilon), lam=lam, epochs=600, learning_rate=0.03)
    # What is left is the chance of the last steps: measured 0.02 to 0.03.
    assert relative_gap(found, expected) < 0.05
    assert relative_gap(torch.linalg.pinv(M), expected) > 1


def test_training_against_a_common_delta_nears_the_clipped_inverse():
    epsilon, lam = 0.6, 0.5
    gains, clipped = theory.common_gains(B.singular_values().numpy(), epsilon, lam)
    assert 1 < clipped < 8

    def cost(matrix):
        return theory.common_cost(np.asarray(matrix), M.numpy(), epsilon, lam)

    found = fitted(white_images(), adversaries.Common(epsilon), lam=lam, epochs=700, learning_rate=0.03)
    best = cost(theory.robust_inverse(M.numpy(), gains))
    assert best <= cost(found) < 1.08 * best  # measured 1.03; adversary and network circle around the optimum
    assert cost(torch.linalg.pinv(M)) > 1.3 * best


# ---- files

EDITS = {
    "another seed": {"seed": 4},
    "another number of measurements": {"num_measurements": 21},
    "another factory": {"factory": "dct_block", "seed": None},
}


def described(**changes):
    """GAUSSIAN with changes; None leaves a key out."""
    return {key: value for key, value in (GAUSSIAN | changes).items() if value is not None}


@pytest.fixture
def saved(tmp_path):
    """(f, path) of a network with batch normalisation, trained a little, and its file."""
    f = reconstructor(norm="batch")
    training.fit(f, A, torch.rand(8, 1, 8, 8), epochs=2, batch_size=4, learning_rate=0.01)
    return f, networks.save(tmp_path / "mine.safetensors", f, GAUSSIAN, recipe="make-it", seed="0")


def test_a_saved_network_comes_back_in_half_precision(saved):
    f, path = saved
    torch.manual_seed(5)
    found = networks.pretrained(path)
    assert isinstance(found, networks.Reconstructor)
    for name, value in f.state_dict().items():
        half = value.half().float() if value.is_floating_point() else value
        assert torch.equal(found.state_dict()[name], half), name
    y = A(torch.rand(4, 1, 8, 8))
    difference = (found(y) - f(y)).abs().max()
    assert 0 < difference < 1e-2 * f(y).abs().max()  # 11 bits in each weight of 7 layers
    assert found(y).dtype == torch.float32


def test_a_saved_network_comes_back_ready_for_use(saved):
    _, path = saved
    f = networks.pretrained(path)
    assert not any(layer.training for layer in f.modules())
    assert not any(weights.requires_grad for weights in f.parameters())
    assert torch.equal(f.operator.matrix(), A.matrix())
    assert f.notes["recipe"] == "make-it" and f.notes["seed"] == "0"


def test_saving_again_loses_nothing(saved):
    _, path = saved
    f = networks.pretrained(path)
    g = networks.pretrained(networks.save(path, f, GAUSSIAN))
    assert all(torch.equal(value, g.state_dict()[name]) for name, value in f.state_dict().items())


def test_the_same_network_is_the_same_file(saved):
    # The manifest holds a hash of each file: a recipe that runs again should find it unchanged.
    f, path = saved
    files = {networks.save(path, f, GAUSSIAN, recipe="make-it").read_bytes() for _ in range(4)}
    assert len(files) == 1


def test_a_network_in_double_precision_is_saved_too(saved):
    f, path = saved
    networks.save(path, f.double(), GAUSSIAN)
    y = A(torch.rand(4, 1, 8, 8))
    assert torch.allclose(networks.pretrained(path)(y), f(y.double()).float(), atol=1e-4)
    assert f.operator.dtype == torch.float64  # saving leaves f as it is


@pytest.mark.parametrize(
    ("settings", "operator"),
    [
        ({"start": "fbp"}, {"factory": "parallel_beam", "image_size": 16, "num_angles": 6}),
        ({"in_channels": 3, "out_channels": 3, "levels": 2, "fold": 2},
         {"factory": "gaussian", "num_measurements": 20, "image_shape": [3, 8, 8]}),
        ({"width": 7, "levels": 1}, {"factory": "dct_block", "num_measurements": 40, "image_shape": [1, 10, 10]}),
    ],
    ids=["tomography", "colour", "cosines"],
)  # fmt: skip
def test_every_kind_of_network_and_operator_comes_back(settings, operator, tmp_path):
    arguments = {key: value for key, value in operator.items() if key != "factory"}
    made = getattr(operators, operator["factory"])(**arguments)
    f = reconstructor(operator=made, **settings)
    found = networks.pretrained(networks.save(tmp_path / "f.safetensors", f, operator))
    y = made(torch.rand(2, *made.image_shape))
    assert found.start == f.start
    assert found.network.settings == f.network.settings
    assert torch.allclose(found(y), f(y), atol=0.01)


def test_weights_of_the_book_are_known_by_name(saved, tmp_path, monkeypatch):
    f, _ = saved
    monkeypatch.setattr(store, "DATA", tmp_path)
    lines = ["| file | content | source | licence | recipe | seed | sha256 |", "|---" * 7 + "|"]
    (tmp_path / "README.md").write_text("\n".join(lines) + "\n")
    assert networks.list_pretrained() == []
    for name in ("mnist/plain", "ct/min-max"):
        path = networks.save(name, f, GAUSSIAN)
        assert path == tmp_path / "weights" / f"{name}.safetensors"
        lines.append(f"| `weights/{name}.safetensors` | a | b | c | `d` | 0 | `{store.sha256(path)}` |")
    lines.append("| `images/digits.npz` | a | b | c | `d` | 0 | `e` |")
    lines.append("| `results/weights/x.safetensors` | a | b | c | `d` | 0 | `e` |")
    (tmp_path / "README.md").write_text("\n".join(lines) + "\n")
    assert networks.list_pretrained() == ["ct/min-max", "mnist/plain"]
    y = A(torch.rand(2, 1, 8, 8))
    assert torch.allclose(networks.pretrained("ct/min-max")(y), f(y), atol=0.01)
    with pytest.raises(store.DataError, match=r"no network 'mnist/robust'.*\['ct/min-max', 'mnist/plain'\]"):
        networks.pretrained("mnist/robust")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(store.DataError, match=r"ct/min-max\.safetensors was altered"):
        networks.pretrained("ct/min-max")


# ---- another operator


@pytest.mark.parametrize("name", EDITS)
def test_another_operator_is_refused_on_saving(name, saved):
    f, path = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"operator must describe f\.operator"):
        networks.save(path, f, described(**EDITS[name]))
    assert path.read_bytes() == before


def test_another_operator_is_an_error_of_the_argument(saved):
    f, path = saved
    with pytest.raises(ValueError, match="operator"):
        networks.save(path, f, described(seed=4))


def edited(path, *, drop=(), tensors=None, **metadata):
    """The file with other metadata: texts as they are, anything else as JSON."""
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        notes = json.loads(file.metadata()["notes"])
    notes |= {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    for key in drop:
        del notes[key]
    save_file(tensors(stored) if tensors else stored, path, metadata={"notes": json.dumps(notes)})
    return path


@pytest.mark.parametrize("name", EDITS)
def test_another_operator_is_refused_on_loading(name, saved):
    _, path = saved
    with pytest.raises(store.DataError, match=r"mine\.safetensors .*belongs to another operator"):
        networks.pretrained(edited(path, operator=described(**EDITS[name])))


SCAN = {"factory": "parallel_beam", "image_size": 16, "num_angles": 6}


@pytest.mark.parametrize("name", ["num_angles", "angle_offset", "axis_shift", "image_size"])
def test_another_scan_is_refused(name, tmp_path):
    f = reconstructor(operator=operators.parallel_beam(16, 6), start="fbp", levels=1)
    path = networks.save(tmp_path / "mine.safetensors", f, SCAN)
    change = {"num_angles": 7, "angle_offset": 1e-3, "axis_shift": 0.01, "image_size": 15}[name]
    with pytest.raises(store.DataError, match="another operator"):
        networks.pretrained(edited(path, operator=SCAN | {name: change}))


@pytest.fixture
def gaussian_becomes(monkeypatch):
    """Put another operator in the place of the factory's, and forget those that were made before."""

    def replace(operator):
        monkeypatch.setitem(networks._OPERATORS, "gaussian", lambda **_: operator)
        networks._operator.cache_clear()

    yield replace
    networks._operator.cache_clear()


def test_every_entry_of_the_matrix_counts(gaussian_becomes, saved):
    # A factory whose result changed since, as after a change of the code or of a library.
    _, path = saved
    for row, column in ((0, 0), (7, 33), (19, 63)):
        changed = A.matrix().clone()
        changed[row, column] += 0.1
        gaussian_becomes(operators.from_matrix(changed, (1, 8, 8)))
        with pytest.raises(store.DataError, match="another operator"):
            networks.pretrained(path)
    # Nor may pixels or measurements change places.
    for swapped in (A.matrix().flip(0), A.matrix().flip(1), A.matrix().reshape(20, 8, 8).mT.reshape(20, 64)):
        gaussian_becomes(operators.from_matrix(swapped.contiguous(), (1, 8, 8)))
        with pytest.raises(store.DataError, match="another operator"):
            networks.pretrained(path)
    # Rounding of another machine does not count.
    gaussian_becomes(operators.from_matrix(A.matrix() * (1 + 3e-7 * normal(20, 64).float()), (1, 8, 8)))
    networks.pretrained(path)


def test_the_networks_of_an_experiment_share_their_operator(saved):
    _, path = saved
    assert networks.pretrained(path).operator is networks.pretrained(path).operator


def test_a_fingerprint_of_nan_fits_nothing(saved):
    _, path = saved
    with pytest.raises(store.DataError):
        networks.pretrained(edited(path, operator=described(seed=4), fingerprint=[math.nan] * 9))


# ---- hostile and broken files


class Launcher:
    """What a pickle would run while it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return self.target.touch, ()


def replaced(path, content):
    path.write_bytes(content)
    return path


BROKEN = {
    "a pickle": lambda path: replaced(path, pickle.dumps(Launcher(path.with_name("trace")))),
    "empty": lambda path: replaced(path, b""),
    "cut": lambda path: replaced(path, path.read_bytes()[:-10]),
    "a text": lambda path: replaced(path, b"weights, honestly, and many of them"),
    "no operator": lambda path: edited(path, drop=["operator"]),
    "no fingerprint": lambda path: edited(path, drop=["fingerprint"]),
    "no network": lambda path: edited(path, drop=["network"]),
    "no start": lambda path: edited(path, drop=["start"]),
    "no JSON": lambda path: edited(path, operator="gaussian"),
    "an operator that is a list": lambda path: edited(path, operator=[1, 2]),
    "an unknown argument of the operator": lambda path: edited(path, operator=described(colour="red")),
    "a short fingerprint": lambda path: edited(path, fingerprint=[1.0]),
    "an unknown setting of the network": lambda path: edited(path, network={"depth": 3}),
    "another width": lambda path: edited(path, network={"width": 5, "levels": 2, "norm": "batch"}),
    "other names": lambda path: edited(path, tensors=lambda old: {f"x.{key}": old[key] for key in old}),
    "a tensor missing": lambda path: edited(path, tensors=lambda old: dict(list(old.items())[1:])),
    "a tensor too many": lambda path: edited(path, tensors=lambda old: old | {"more": torch.ones(2)}),
    "tensors of another shape": lambda path: edited(path, tensors=lambda old: {k: v[None] for k, v in old.items()}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_and_nothing_in_it_is_run(name, saved):
    _, path = saved
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one: see the next test
        networks.pretrained(BROKEN[name](path))
    assert not path.with_name("trace").exists()


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_of_a_broken_file_names_it(name, saved):
    _, path = saved
    with pytest.raises(store.DataError, match=r"mine\.safetensors"):
        networks.pretrained(BROKEN[name](path))


@pytest.mark.parametrize("factory", ["os.system", "from_matrix", "LinearOperator", None])
def test_only_listed_factories_are_called(factory, saved):
    _, path = saved
    text = r"operator must name its factory, one of \['dct_block', 'gaussian', 'parallel_beam', 'with_spectrum'\]"
    with pytest.raises(store.DataError, match=text):
        networks.pretrained(edited(path, operator={"factory": factory}))


def test_weights_that_are_not_finite_are_refused(saved):
    _, path = saved
    nan = lambda old: {key: value * math.nan if value.ndim > 1 else value for key, value in old.items()}
    with pytest.raises(store.DataError, match=r"mine\.safetensors"):
        networks.pretrained(edited(path, tensors=nan))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        networks.pretrained(tmp_path / "none.safetensors")


# ---- bad input

F = reconstructor()
BAD = {
    "A a matrix": (lambda path: networks.Reconstructor(A.matrix(), Scale(1.0)), TypeError, "A must be a LinearOperator.*Tensor"),
    "A a matrix, linear": (lambda path: networks.LinearReconstructor(A.matrix()), TypeError, "A must be .*Tensor"),
    "start": (lambda path: networks.Reconstructor(A, Scale(1.0), start="pinv"), ValueError, r"start .*'adjoint', 'fbp'.*'pinv'"),
    "fbp without a scan": (lambda path: networks.Reconstructor(A, Scale(1.0), start="fbp")(torch.ones(1, 20)), ValueError, "fbp needs"),
    "data of another shape": (lambda path: F(torch.ones(2, 21)), ValueError, r"y must have shape \(B, 20\)"),
    "data of another type": (lambda path: F(torch.ones(2, 20).double()), TypeError, "y has dtype torch.float64"),
    "name": (lambda path: networks.pretrained(3), TypeError, "name must be a str.*int"),
    "save: name": (lambda path: networks.save(3, F, GAUSSIAN), TypeError, "name must be a str.*int"),
    "save: no factory": (lambda path: networks.save(path, F, described(factory=None)), ValueError, "operator must name its factory"),
    "save: numbers in the notes": (lambda path: networks.save(path, F, GAUSSIAN, epochs=3), TypeError, "metadata must map str to str"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name, tmp_path):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call(tmp_path / "mine.safetensors")
    assert not list(tmp_path.iterdir())


C = operators.gaussian(20, (3, 8, 8))
UNCLEAR = {
    "A and the network of other types": (lambda path: networks.Reconstructor(A.to(torch.float64), Scale(1.0))(torch.ones(2, 20).double()), "A "),
    "an image of other channels": (lambda path: networks.Reconstructor(C, networks.UNet(3, 1, width=2))(torch.ones(2, 20)), "network"),
    "linear data of another shape": (lambda path: networks.LinearReconstructor(A)(torch.ones(2, 21)), r"y must have shape \(B, 20\)"),
    "save: a linear network": (lambda path: networks.save(path, networks.LinearReconstructor(A), GAUSSIAN), "f must"),
    "save: another network": (lambda path: networks.save(path, networks.Reconstructor(A, Scale(1.0)), GAUSSIAN), "f must"),
    "save: operator a word": (lambda path: networks.save(path, F, "gaussian"), "operator must"),
    "save: a note that hides an entry": (lambda path: networks.save(path, F, GAUSSIAN, start="fbp"), "start"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_names_the_argument(name, tmp_path):
    call, text = UNCLEAR[name]
    with pytest.raises((TypeError, ValueError), match=text):
        call(tmp_path / "mine.safetensors")
