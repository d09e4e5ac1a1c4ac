"""Files from elsewhere: broken, hostile or too large ones are refused by name, and nothing in them is ever run."""

import io
import json
import pickle
import random
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ir_helpers import checkpoints, datasets, dicom, files, networks, operators, store, training
from ir_helpers.files import DataError

# ---- no pickle anywhere

UNSAFE = re.compile(
    r"\b(import|from)\s+(c?[pP]ickle|dill|joblib|cloudpickle|shelve|marshal|jsonpickle)\b|allow_pickle\s*=\s*(?!False)"
    r"|\btorch\.(load|save|jit\.load|hub)\b|\bread_pickle\b|\bnp\.(load|loadtxt|genfromtxt)\("
    r"|\byaml\.(load|unsafe_load|full_load)\(|(?<![\w.])(eval|exec|__import__)\(|\bextractall\("
)


def sources(root):
    paths = [*root.glob("ir_helpers/*.py"), *root.glob("book/**/*.py"), *root.glob("book/*.md")]
    return [path for path in paths if "_build" not in path.parts]


def test_nothing_is_unpickled(root):
    found = [
        f"{path.relative_to(root)}:{number}: {line}"
        for path in sources(root)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNSAFE.search(line)
    ]
    assert found == []
    assert len(sources(root)) > 60


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "x = eval(text)",
        "archive.extractall(folder)",
        "write_array(file, a, allow_pickle = flag)",
    ],
)
def test_a_line_that_unpickles_is_seen(line):
    assert UNSAFE.search(line)


@pytest.mark.parametrize("line", ["f.eval()", "yaml.safe_load(text)", "allow_pickle=False", "np.loads = 1"])
def test_other_lines_are_let_pass(line):
    assert not UNSAFE.search(line)


class Launcher:
    """What a pickle would run while it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return self.target.touch, ()


@pytest.fixture
def mark(tmp_path):
    """A file that appears when something is run."""
    path = tmp_path / "this-was-run"
    yield path
    assert not path.exists()


def test_the_launcher_would_run(tmp_path):
    pickle.loads(pickle.dumps(Launcher(tmp_path / "run")))
    assert (tmp_path / "run").exists()


# ---- archives of arrays


def npy(array, allow_pickle=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def npy_with_header(header, content=b"", version=(1, 0)):
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + content


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


FACES = {"images": np.zeros((6, 64, 64, 3), np.uint8), "bioguide": np.array(list("abcdef"))}


def faces(**changes):
    return zipped([(f"{key}.npy", npy(value)) for key, value in (FACES | changes).items()])


def patched(content, old, new, count=-1):
    assert old in content and len(old) == len(new)
    return content.replace(old, new, count)


def lies_about_size(size):
    """The directory and the member say that there are ``size`` bytes."""
    content = zipped([("images.npy", npy(FACES["images"]))])
    real = struct.pack("<I", len(npy(FACES["images"])))
    return patched(content, real, struct.pack("<I", size))


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}".format
ARCHIVES = {
    "a pickle": lambda mark: pickle.dumps(Launcher(mark)),
    "a file of torch.save": lambda mark: saved_by_torch(mark),
    "objects": lambda mark: zipped([("images.npy", npy(np.array([Launcher(mark)], dtype=object), True))]),
    "objects in records": lambda mark: zipped([("images.npy", npy(np.array([(Launcher(mark),)], dtype=[("a", object)]), True))]),
    "a pickle as a member": lambda mark: zipped([("images.npy", pickle.dumps(Launcher(mark)))]),
    "a member beside the arrays": lambda mark: zipped([("images.npy", npy(FACES["images"])), ("setup.py", "x")]),
    "a name that climbs": lambda mark: zipped([("../images.npy", npy(FACES["images"]))]),
    "a name from the root": lambda mark: zipped([("/images.npy", npy(FACES["images"]))]),
    "a name with backslashes": lambda mark: zipped([("..\\images.npy", npy(FACES["images"]))]),
    "a name with a drive": lambda mark: zipped([("C:images.npy", npy(FACES["images"]))]),
    "two of one name": lambda mark: zipped([("images.npy", npy(FACES["images"]))] * 2),
    "encrypted": lambda mark: patched(zipped([("images.npy", b"x")]), b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "of unknown compression": lambda mark: patched(zipped([("images.npy", b"x")], zipfile.ZIP_STORED), b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x61\x00"),
    "says that it is larger": lambda mark: lies_about_size(2**30),
    "says that it is huge": lambda mark: lies_about_size(2**32 - 2),
    "says that it is smaller": lambda mark: lies_about_size(200),
    "an array of a petabyte": lambda mark: zipped([("images.npy", npy_with_header(HEADER("|u1", (10**15,))))]),
    "an array of negative size": lambda mark: zipped([("images.npy", npy_with_header(HEADER("|u1", (-2, -2)), bytes(4)))]),
    "an array of empty text": lambda mark: zipped([("images.npy", npy_with_header(HEADER("<U0", (10**15,))))]),
    "a header that calls": lambda mark: zipped([("images.npy", npy_with_header(f"__import__('pathlib').Path({str(mark)!r}).touch()"))]),
    "a header of a gigabyte": lambda mark: zipped([("images.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**30))]),
    "a header of many brackets": lambda mark: zipped([("images.npy", npy_with_header("[" * 9000))]),
    "an unknown version": lambda mark: zipped([("images.npy", npy_with_header(HEADER("|u1", (1,)), b"x", (9, 0)))]),
    "another checksum": lambda mark: patched(zipped([("images.npy", npy(np.arange(9)))], zipfile.ZIP_STORED), struct.pack("<q", 8), struct.pack("<q", 7)),
    "no archive": lambda mark: b"faces, honestly",
    "empty": lambda mark: b"",
    "cut": lambda mark: faces()[:-30],
    "cut in the middle": lambda mark: faces()[:200],
    "an array missing": lambda mark: zipped([("images.npy", npy(FACES["images"]))]),
    "another dtype": lambda mark: faces(images=FACES["images"].astype(float)),
    "another shape": lambda mark: faces(images=FACES["images"][:, :32]),
    "names that are numbers": lambda mark: faces(bioguide=np.arange(6)),
    "fewer names than faces": lambda mark: faces(bioguide=FACES["bioguide"][:5]),
    "no faces": lambda mark: faces(images=FACES["images"][:0], bioguide=FACES["bioguide"][:0]),
}  # fmt: skip


# Why: what else is wrong with such a file must not be what gives it away.
REASONS = {
    "objects": "holds Python objects",
    "objects in records": "holds Python objects",
    "a pickle as a member": "magic",
    "a member beside the arrays": r"'setup\.py' is not the plain name",
    "a name that climbs": "not the plain name",
    "a name from the root": "not the plain name",
    "a name with backslashes": "not the plain name",
    "a name with a drive": "not the plain name",
    "two of one name": "two of its members",
    "encrypted": "is encrypted",
    "of unknown compression": "compression",
    "says that it is huge": r"unpacks to 4\.3e\+09 bytes",
    "an array of a petabyte": r"announces \(1000000000000000,\) of uint8, but has 0 bytes",
    "an array of negative size": r"announces \(-2, -2\)",
    "an array of empty text": "holds Python objects",
    "an unknown version": r"version \(9, 0\)",
    "another checksum": "CRC",
    "an array missing": "no array 'bioguide'",
    "another dtype": "'images' must be uint8",
    "another shape": "'images' must be uint8",
    "names that are numbers": "'bioguide' must be text",
    "fewer names than faces": "has 5 items, the others 6",
    "no faces": "has 0 items",
}


def saved_by_torch(mark):
    stream = io.BytesIO()
    torch.save({"a": Launcher(mark)}, stream)
    return stream.getvalue()


@pytest.fixture
def portraits(tmp_path, monkeypatch):
    monkeypatch.setenv("IR_DATA_DIR", str(tmp_path))
    return tmp_path / "faces_congress64.npz"


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused_by_name(name, portraits, mark):
    portraits.write_bytes(ARCHIVES[name](mark))
    with pytest.raises(DataError, match=rf"faces_congress64\.npz cannot be used .*{REASONS.get(name, '')}"):
        datasets.faces("train", full=True)


def test_the_archive_that_was_changed_above_is_good(portraits, mark):
    portraits.write_bytes(faces())
    assert datasets.faces("train", full=True).shape == (4, 3, 64, 64)


def test_a_bomb_is_refused_before_it_is_unpacked(portraits, monkeypatch):
    bomb = zipped([(f"{k}.npy", npy(np.zeros(10**6, np.uint8))) for k in range(8)])
    assert len(bomb) < 20_000
    portraits.write_bytes(bomb)
    monkeypatch.setattr(files, "_LARGEST", 7 * 10**6)
    monkeypatch.setattr(files, "_read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match=r"unpacks to 8e\+06 bytes, more than 7e\+06"):
        datasets.faces("train", full=True)


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {
        "numbers": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "text": np.array(["a", "ü€"]),
        "one": np.float32(3),
        "none": np.zeros((0, 3), bool),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = files.read_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for key, value in arrays.items():
        assert found[key].dtype == value.dtype and np.array_equal(found[key], value)
        assert found[key].flags.writeable


def test_links_to_nowhere_and_devices_are_named(portraits):
    portraits.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"faces_congress64\.npz cannot be used .*No such file"):
        datasets.faces("train", full=True)
    portraits.unlink()
    portraits.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"faces_congress64\.npz is no regular file"):
        datasets.faces("train", full=True)


# ---- data/


@pytest.mark.parametrize(
    "name",
    ["images\\ct.npz", "C:\\data\\ct.npz", "C:ct.npz", "/etc/passwd", "..\\README.md", "\\\\host\\share\\ct.npz"],
)  # fmt: skip
def test_a_path_of_windows_or_from_the_root_is_explained(name):
    with pytest.raises(DataError, match="must be a path below data/ with forward slashes"):
        store.checked(name)


def test_a_listed_file_outside_is_refused(tmp_path, monkeypatch):
    outside, data = tmp_path / "outside.npz", tmp_path / "data"
    np.savez(outside, a=np.arange(3))
    data.mkdir()
    (data / "inside.npz").write_bytes(outside.read_bytes())
    (data / "link.npz").symlink_to(outside)
    (data / "near.npz").symlink_to("inside.npz")
    rows = [f"| `{name}` | c | s | l | `r` | 0 | `{store.sha256(outside)}` |" for name in ("link.npz", "near.npz", "../outside.npz")]  # fmt: skip
    head = "| file | content | source | licence | recipe | seed | sha256 |\n|---|---|---|---|---|---|---|\n"
    (data / "README.md").write_text(head + "\n".join(rows) + "\n")
    monkeypatch.setattr(store, "DATA", data)
    assert store.load_arrays("near.npz")["a"].tolist() == [0, 1, 2]
    for name in ("link.npz", "../outside.npz"):
        with pytest.raises(DataError, match=rf"data/{name} is a link to .*outside\.npz, outside of data/"):
            store.load_arrays(name)
    # All of data/ may lie on another disk.
    (tmp_path / "other").symlink_to(data)
    monkeypatch.setattr(store, "DATA", tmp_path / "other")
    assert store.load_arrays("near.npz")["a"].tolist() == [0, 1, 2]


# ---- weights and checkpoints


def tensors_file(header, content=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + content


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SAFETENSORS = {
    "a pickle": lambda mark: pickle.dumps(Launcher(mark)),
    "a file of torch.save": saved_by_torch,
    "a pickle behind a header": lambda mark: tensors_file({"__metadata__": {}}, pickle.dumps(Launcher(mark))),
    "an archive of objects": ARCHIVES["objects"],
    "empty": lambda mark: b"",
    "zeros": lambda mark: bytes(100),
    "a header of an exabyte": lambda mark: tensors_file({"w": entry(0, 8)}, bytes(8), 2**60),
    "a header of all of it": lambda mark: tensors_file({"w": entry(0, 8)}, bytes(8), 2**64 - 1),
    "a header beyond the end": lambda mark: tensors_file({"w": entry(0, 8)}, bytes(8), 10_000),
    "a header of many brackets": lambda mark: tensors_file(b"[" * 100_000),
    "deep metadata": lambda mark: tensors_file(b'{"w":' * 10_000),
    "a header that is no text": lambda mark: tensors_file(b"{\xff\xfe}"),
    "a tensor beyond the end": lambda mark: tensors_file({"w": entry(0, 2**40, (2**38,))}, bytes(8)),
    "an offset that is negative": lambda mark: tensors_file({"w": entry(-8, 0)}, bytes(8)),
    "offsets turned round": lambda mark: tensors_file({"w": entry(8, 0)}, bytes(8)),
    "offsets that overlap": lambda mark: tensors_file({"v": entry(0, 8), "w": entry(4, 12)}, bytes(12)),
    "a gap": lambda mark: tensors_file({"v": entry(0, 8), "w": entry(16, 24)}, bytes(24)),
    "a shape that overflows": lambda mark: tensors_file({"w": entry(0, 8, (2**62, 2**3))}, bytes(8)),
    "a larger shape": lambda mark: tensors_file({"w": entry(0, 8, (3,))}, bytes(8)),
    "an unknown type": lambda mark: tensors_file({"w": entry(0, 8, (2,), "OBJ")}, bytes(8)),
    "more behind the end": lambda mark: tensors_file({"w": entry(0, 8)}, bytes(9)),
    "notes that are no JSON": lambda mark: tensors_file({"__metadata__": {"notes": "gaussian"}}),
    "notes that are a list": lambda mark: tensors_file({"__metadata__": {"notes": "[1]"}}),
    "notes that are numbers": lambda mark: tensors_file({"__metadata__": {"notes": '{"a": 1}'}}),
    "notes of many brackets": lambda mark: tensors_file({"__metadata__": {"notes": "[" * 10**6}}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFETENSORS)
@pytest.mark.parametrize("load", [store.load_weights, networks.pretrained, checkpoints.load])
def test_hostile_weights_and_checkpoints_are_refused_by_name(load, name, tmp_path, mark):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(SAFETENSORS[name](mark))
    with pytest.raises(DataError, match=r"theirs\.safetensors"):
        load(path)


@pytest.mark.parametrize("load", [store.load_weights, networks.pretrained])
def test_weights_from_a_device_or_a_folder_are_refused(load, tmp_path):
    for path in (Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="is no regular file"):
            load(path)


A = operators.gaussian(8, (1, 4, 4))
GAUSSIAN = {"factory": "gaussian", "num_measurements": 8, "image_shape": [1, 4, 4]}
GREEDY = {
    "a matrix of terabytes": ("operator", GAUSSIAN | {"num_measurements": 8000, "image_shape": [1, 8000, 8000]}),
    "an endless list of measurements": ("operator", GAUSSIAN | {"num_measurements": 10**12}),
    "a large DCT": ("operator", {"factory": "dct_block", "num_measurements": 8000, "image_shape": [1, 300, 300]}),
    "a large scan": ("operator", {"factory": "parallel_beam", "image_size": 8000, "num_angles": 8000}),
    "a scan as a matrix": ("operator", {"factory": "parallel_beam", "image_size": 1000, "num_angles": 200, "backend": "matrix"}),
    "a large spectrum": ("operator", {"factory": "with_spectrum", "singular_values": [1.0] * 2000, "image_shape": [1, 1000, 1000]}),
    "a wide network": ("network", {"width": 10**6, "levels": 2}),
    "a deep network": ("network", {"width": 2, "levels": 10**9}),
    "a folded network": ("network", {"width": 2, "levels": 2, "fold": 10**5}),
    "a network that is a list": ("network", [1]),
    "a network of text": ("network", {"width": "2", "levels": "2"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    torch.manual_seed(0)
    f = networks.Reconstructor(A, networks.UNet(width=2, levels=2))
    return networks.save(tmp_path_factory.mktemp("own") / "mine.safetensors", f, GAUSSIAN)


@pytest.mark.parametrize("name", GREEDY)
def test_a_file_that_asks_for_all_memory_is_refused_before_it_gets_any(name, own, tmp_path, monkeypatch):
    tensors, notes = store.load_weights(own)
    key, value = GREEDY[name]
    path = store.save_weights(tmp_path / "theirs.safetensors", tensors, notes | {key: json.dumps(value)})
    monkeypatch.setattr(networks, "make_operator", lambda _: pytest.fail("an operator was made"))
    networks._operator.cache_clear()
    with pytest.raises(DataError, match=r"theirs\.safetensors is not a network that networks\.save wrote"):
        networks.pretrained(path)


def forged(path, rest, tensors=None):
    """A checkpoint of any content, with the right hash: who makes a file can also make its hash."""
    text, tensors = json.dumps(rest), tensors or {}
    save_file(tensors, path, metadata={"rest": text, "sha256": checkpoints._digest(tensors, text)})


@pytest.mark.parametrize(
    "rest",
    [
        7,
        [],
        {"pairs": 7},
        {"pairs": [[1]]},
        {"pairs": [[[], {"value": 1}]]},
        {"tensor": "none"},
        {"tensor": []},
        {"value": 7},
        {"pairs": [["settings", {"value": 7}]]},
        {"pairs": [["settings", {"pairs": []}]]},
    ],
)
def test_a_forged_checkpoint_is_refused_by_name(rest, tmp_path):
    path = tmp_path / "run.safetensors"
    forged(path, rest)
    f, images = networks.LinearReconstructor(A), torch.rand(4, 1, 4, 4)
    with pytest.raises(DataError, match=r"run\.safetensors"):
        training.fit(f, A, images, epochs=1, checkpoint=path)
    assert path.exists()


@pytest.mark.parametrize("part", ["network", "optimiser", "history", "searched_before"])
def test_a_checkpoint_with_a_forged_part_is_refused_by_name(part, tmp_path):
    path, images = tmp_path / "run.safetensors", torch.rand(4, 1, 4, 4)
    f = networks.LinearReconstructor(A)
    training.fit(f, A, images, epochs=1, checkpoint=path)
    state = checkpoints.load(path)
    state.pop(part) if part == "searched_before" else state.update({part: 7})
    checkpoints.save(path, state)
    with pytest.raises(DataError, match=r"run\.safetensors"):
        training.fit(networks.LinearReconstructor(A), A, images, epochs=1, checkpoint=path)


# ---- folders of images


def test_a_list_of_faces_that_climbs_is_refused(tmp_path):
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    Image.new("RGB", (178, 218)).save(tmp_path / "secret.jpg")
    for name in (
        "../../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "..\\..\\secret.jpg",
        "C:secret.jpg",
        ".hidden",
    ):
        (tmp_path / "celeba" / "list_eval_partition.txt").write_text(f"{name} 0\n")
        with pytest.raises(DataError, match=r"list_eval_partition\.txt, line 1 names .* no plain file name"):
            datasets.faces("train", source=tmp_path / "celeba")


def test_a_list_of_faces_without_end_is_refused(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    with open(tmp_path / "list_eval_partition.txt", "wb") as file:
        file.truncate(2**33)  # takes no room on the disk
    with pytest.raises(DataError, match=r"list_eval_partition\.txt has 8,589,934,592 bytes"):
        datasets.faces("train", source=tmp_path)


def lodopab(path, make):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        make(h5py, file)


def outside(h5py, file):
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["data"] = np.zeros((2, 362, 362), np.float32)
    return "other.h5"


def external_storage(h5py, file):
    Path(file.filename).with_name("raw").write_bytes(bytes(4 * 2 * 362**2))
    file.create_dataset("data", (2, 362, 362), "f4", external=[("raw", 0, 4 * 2 * 362**2)])


def virtual(h5py, file):
    layout = h5py.VirtualLayout((2, 362, 362), "f4")
    layout[:] = h5py.VirtualSource(outside(h5py, file), "data", (2, 362, 362))
    file.create_virtual_dataset("data", layout)


LODOPAB = {
    "a link to another file": (lambda h5py, file: file.__setitem__("data", h5py.ExternalLink(outside(h5py, file), "data")), "refers to another place"),
    "a link to a missing file": (lambda h5py, file: file.__setitem__("data", h5py.ExternalLink("none.h5", "data")), "refers to another place"),
    "a soft link": (lambda h5py, file: file.__setitem__("data", h5py.SoftLink("/data")), "refers to another place"),
    "numbers in another file": (external_storage, "must hold the numbers .* itself"),
    "numbers of another file": (virtual, "must hold the numbers .* itself"),
    "objects": (lambda h5py, file: file.create_dataset("data", (2, 362, 362), h5py.string_dtype(), chunks=(1, 362, 362)), "as floats"),
    "a petabyte": (lambda h5py, file: file.create_dataset("data", (10**10, 362, 362), "f4", chunks=(1, 362, 362)), "announces 10,000,000,000 slices"),
    "a group": (lambda h5py, file: file.create_group("data"), "got None"),
}  # fmt: skip


@pytest.mark.parametrize("name", LODOPAB)
def test_a_hostile_file_of_lodopab_is_refused_by_name(name, tmp_path):
    make, text = LODOPAB[name]
    path = tmp_path / "ground_truth_test_000.hdf5"
    lodopab(path, make)
    with pytest.raises(DataError, match=rf"ground_truth_test_000\.hdf5 .*{text}"):
        datasets.ct_slices("test", source=tmp_path)


def slice_of_ct(path, compress=False, **changes):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    deflated = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.file_meta.TransferSyntaxUID = deflated if compress else pydicom.uid.RLELossless
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.PatientID, data.SeriesInstanceUID = "P0", "1.2.3"
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.RescaleSlope, data.RescaleIntercept = [1, 1], 1, -1024
    data.Rows = data.Columns = 16
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    frame = bytes(512) if compress else pydicom.encaps.encapsulate([bytes(64)])
    data.PixelData = frame
    for name, value in changes.items():
        setattr(data, name, value)
    if not compress:
        data["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, data, enforce_file_format=True)


DICOM = {
    "65,535 pixels on a side": ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels, more than 4096"),
    "a million frames": ({"NumberOfFrames": 10**6}, r"pixels of shape \(1000000, 16, 16\), not one slice"),
    "many colours": ({"SamplesPerPixel": 3}, r"pixels of shape \(1, 16, 16, 3\), not one slice"),
    "deflated zeros": ({"compress": True, "PixelData": bytes(30 * 2**20)}, "deflated, and larger than 20,000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", DICOM)
def test_a_slice_that_would_fill_the_memory_is_skipped_by_name(name, tmp_path, monkeypatch):
    changes, text = DICOM[name]
    slice_of_ct(tmp_path / "a.dcm", **changes)
    monkeypatch.setattr(dicom, "_MOST_DEFLATED", 20_000)
    with pytest.raises(DataError, match=rf"1 of 1 files were skipped: a\.dcm \({text}"):
        datasets.ct_slices("test", source=tmp_path)


def test_the_slice_that_was_changed_above_is_good(tmp_path):
    slice_of_ct(tmp_path / "a.dcm", compress=True)
    assert datasets.ct_slices("test", source=tmp_path).shape == (1, 1, 256, 256)


# ---- any damage


def damaged(content, rng):
    """Some bytes changed, or a piece cut out, or put in twice."""
    content = bytearray(content)
    kind, place = rng.randrange(3), rng.randrange(len(content))
    if kind == 0:
        for _ in range(rng.choice([1, 1, 1, 8])):
            content[rng.randrange(min(len(content), rng.choice([64, 512, 10**9])))] = rng.randrange(256)
    elif kind == 1:
        del content[place : place + rng.choice([1, 8, 10**9])]
    else:
        content[place:place] = content[place : place + 16]
    return bytes(content)


def jpeg():
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "jpeg", quality=5)
    return stream.getvalue()


def written(kind, folder, own):
    """Write a small whole file of a kind; return its path, and a function that loads it."""
    path = folder / {"face": "img_align_celeba/1.jpg", "dicom": "scans/a.dcm"}.get(kind, f"a.{kind}")
    path.parent.mkdir(exist_ok=True)
    if kind == "npz":
        path.write_bytes(zipped([("a.npy", npy(np.arange(6.0))), ("b.npy", npy(np.array(["x"])))]))
        return path, lambda: {key: value.tolist() for key, value in files.read_arrays(path).items()}
    if kind == "weights":
        path.write_bytes(own.read_bytes())
        return path, lambda: networks.pretrained(path) and None  # its numbers have no hash
    if kind == "checkpoint":
        checkpoints.save(path, {"w": torch.arange(4.0), "list": [1, 2]})
        return path, lambda: str(checkpoints.load(path))
    if kind == "face":
        path.write_bytes(jpeg())
        (folder / "list_eval_partition.txt").write_text("1.jpg 0\n")
        return path, lambda: datasets.faces("train", source=folder).shape
    slice_of_ct(path, compress=True)
    return path, lambda: datasets.ct_slices("test", source=path.parent).shape


def outcome(load):
    """Return what is loaded, or the error that is allowed."""
    try:
        return load(), None
    except DataError as error:
        return None, error


@pytest.mark.parametrize("kind", ["npz", "weights", "checkpoint", "face", "dicom"])
def test_whatever_the_damage_it_is_named_or_changes_nothing(kind, own, tmp_path):
    rng, refused = random.Random(0), 0
    path, load = written(kind, tmp_path, own)
    content, whole = path.read_bytes(), load()
    for _ in range(300):
        path.write_bytes(damaged(content, rng))
        found, error = outcome(load)
        assert found == whole if error is None else path.name in str(error)
        refused += error is not None
    assert refused > 50
