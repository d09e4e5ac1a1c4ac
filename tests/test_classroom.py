"""A classroom: nothing installed can be written to, no home, no network, several users, and three versions of Python."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import faulty
import pytest
import restricted

from ir_helpers import downloads, figures, networks, store

TESTS = Path(__file__).parent

# ---- read-only, without a home, without a network


@pytest.fixture(scope="module")
def installation(tmp_path_factory, root):
    """A copy of the package and its data where nobody may write."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(root / "ir_helpers", folder / "ir_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "data", folder / "data")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture(scope="module")
def visit(installation, tmp_path_factory):
    """What a student saw and heard there: standard error and the values of ``classroom_tour.tour``."""
    if sys.platform == "win32":
        pytest.skip("permissions bind otherwise on Windows")
    mine, temporary = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("temporary")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installation),
        "HOME": "/nonexistent/home",
        "TMPDIR": str(temporary),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(TESTS / "classroom_tour.py"), str(mine)],
        env=environment,
        cwd=installation,
        capture_output=True,
        text=True,
        preexec_fn=restricted.without_root_rights if sys.platform == "linux" else None,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr, json.loads(done.stdout), temporary


def test_permissions_bind_in_these_tests(installation):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'new').touch()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(installation)],
        capture_output=True,
        text=True,
        preexec_fn=restricted.without_root_rights if sys.platform == "linux" else None,
        check=False,
    )
    assert done.returncode == 1 and "PermissionError" in done.stderr


def test_everything_that_a_student_needs_works(visit, installation, root):
    _, seen, _ = visit
    assert seen["package"] == str(installation / "ir_helpers")
    assert seen["sets"] == [2, 2, 2]
    assert seen["tables"] == sum(name.startswith("results/") for name in store.manifest()["file"])
    assert seen["attack"] == pytest.approx([0.5, 0.5], rel=1e-4)
    assert seen["trained"] == seen["resumed"] == 1


def test_only_the_download_may_ask_for_a_network(visit):
    _, seen, _ = visit
    assert set(seen["tried"]) <= {downloads.MNIST_URL.split("/")[2]}


ADVICE = {
    "weights": ("DataError", "mine.safetensors", "pass another path"),
    "checkpoint": ("DataError", "run.safetensors", "the folder writable"),
    "hashes": ("DataError", "README.md", "Permission denied"),
    "jobs": ("DataError", "_build", "--work FOLDER"),
    "download": ("DataError", downloads.MNIST_URL, "XDG_CACHE_HOME", "full=False"),
    "portraits": ("DataError", "faces_congress64.npz", "IR_DATA_DIR is not set"),
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_cannot_work_says_what_to_do(name, visit):
    text = visit[1]["errors"][name]
    assert [part for part in ADVICE[name] if part not in text] == [], text


def test_a_recipe_that_could_not_write_stops_before_it_trains(visit):
    errors, seen, _ = visit
    assert seen["exit"] == 1
    assert "mnist-gaussian: " in errors and "cannot be written to" in errors and "--out FOLDER" in errors


def test_nothing_is_left_behind(visit, installation):
    # PyTorch makes a folder of its own, with the user's name in it, as soon as an optimiser is made.
    assert [path for path in visit[2].iterdir() if not path.name.startswith("torchinductor_")] == []
    assert not [
        path
        for path in installation.rglob("*")
        if path.name in ("__pycache__", "_build") or "part" in path.suffix
    ]


# ---- two users of one machine


def study(user, url, md5, folder):
    """Become a user; download, train and draw in one's own folders, with the temporary folder that all share."""
    os.environ.update(HOME=str(folder / f"home-{user}"), TMPDIR=str(folder / "shared"))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        os.environ.pop(name, None)
    tempfile.tempdir = None
    os.umask(0o077)  # what one user writes the other cannot read
    restricted.become(user)
    home = Path(os.environ["HOME"])
    cache = downloads._cache()
    assert cache.is_relative_to(home)
    downloads.fetch(url, md5, cache)
    downloads.fetch(url, md5, folder / "class")
    faulty.train(home)
    figures.use_style()
    (home / "done").touch()


@pytest.mark.skipif(not restricted.can_become_another(), reason="only root can become other users, on Linux")
def test_two_users_do_not_meet(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    content = os.urandom(100_000)
    for name in ("served", "shared", "class", "home-4001", "home-4002"):
        (tmp_path / name).mkdir()
    for parent in [tmp_path, *list(tmp_path.parents)[:2]]:
        parent.chmod(parent.stat().st_mode | 0o111)
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "served" / "a.bin").write_bytes(content)
    # The teacher has put one copy where all may read it.
    (tmp_path / "class" / "a.bin").write_bytes(content)
    (tmp_path / "class").chmod(0o555)
    md5 = hashlib.md5(content).hexdigest()
    users = (4001, 4002)
    for user in users:
        os.chown(tmp_path / f"home-{user}", user, user)
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.bin"
        processes = [faulty.start(study, user, url, md5, tmp_path) for user in users]
        assert [faulty.wait(process) for process in processes] == [0, 0]
        server.shutdown()
    ends = [faulty.end(tmp_path / f"home-{user}") for user in users]
    assert ends[0] == ends[1]
    for user in users:
        assert (tmp_path / f"home-{user}" / "done").stat().st_uid == user
    assert not list((tmp_path / "shared").iterdir())


# ---- names as Windows writes them


@pytest.mark.parametrize("name", ["mnist-gaussian\\plain", "C:\\weights\\plain", "MNIST-Gaussian/plain"])
def test_a_network_by_a_name_of_windows_is_explained(name):
    with pytest.raises(store.DataError, match=r"there is no network .*list_pretrained\(\) gives \['"):
        networks.pretrained(name)


def test_all_names_of_the_manifest_work_on_all_systems():
    """No backslash, no drive, nothing that Windows forbids, and no two names that differ in case only."""
    names = store.manifest()["file"].tolist()
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_./")
    assert [name for name in names if not set(name) <= allowed or name.startswith(("/", "."))] == []
    assert len({name.lower() for name in names}) == len(names)


# ---- versions of Python


def python_sources(root):
    folders = ("ir_helpers", "tests", "book/_tools", "book/_ext")
    return [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def test_the_sources_are_python_3_11(root):
    for path in python_sources(root):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 11))


def test_a_newer_grammar_would_be_seen():
    with pytest.raises(SyntaxError):
        ast.parse("type Pair = tuple[int, int]", feature_version=(3, 11))


def find_python(version):
    """Return a Python of this version: beside the one that runs, as version managers install them, or on the path."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"*{version}.*/bin/python3"))
    return str(beside[0]) if beside else shutil.which(f"python{version}")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_sources_compile_without_a_warning(version, root):
    python = find_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    code = (
        "import sys\n"
        "for path in sys.argv[1:]:\n"
        "    compile(open(path, encoding='utf-8').read(), path, 'exec')\n"
        "print(sys.version)\n"
    )
    paths = [str(path) for path in python_sources(root)]
    command = [python, "-I", "-W", "error", "-c", code, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(version)
