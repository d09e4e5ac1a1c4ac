"""Fetch files: a broken download goes on where it stopped, and only a whole, right file is kept."""

import gzip
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pooch

from ir_helpers.store import DataError

__all__ = ["MNIST_FILES", "MNIST_URL", "fetch", "fetch_mnist", "read_idx"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {  # array name: (file name, MD5 of the compressed file)
    "x_train": ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "y_train": ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    "x_test": ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    "y_test": ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
}


def fetch(url, md5, folder, *, timeout=20.0, attempts=4):
    """Download `url` into `folder`, unless it is there already.

    Bytes arrive in `<name>.part`. When the connection breaks, the next attempt, also one in a later process,
    asks the server for the rest only. The file gets its name after its MD5 was found right.

    Parameters
    ----------
    url : str
        Address of the file; its last part is the file's name.
    md5 : str
        Expected MD5, 32 hexadecimal digits.
    folder : path-like
        Where the file is kept.
    timeout : float
        Seconds without a byte after which an attempt counts as broken.
    attempts : int
        How many times to connect before giving up.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If the server cannot be reached, or what it sent has another MD5.
    """
    folder, name = Path(folder), url.rsplit("/", 1)[-1]
    part = folder / f"{name}.part"

    def downloader(url, output_file, _):
        _resume(url, part, timeout, attempts)
        os.replace(part, output_file)  # pooch's temporary name, in the same folder

    try:
        return Path(pooch.retrieve(url, f"md5:{md5}", name, folder, downloader=downloader))
    except (OSError, HTTPException, ValueError) as error:  # pooch reports a wrong hash as ValueError
        raise DataError(f"could not fetch {url}: {error}") from error


def _resume(url, part, timeout, attempts):
    for attempt in range(attempts):
        try:
            if _continue(url, part, timeout):
                return
            error = OSError("the connection closed before the end of the file")
        except urllib.error.HTTPError as refusal:
            # 416: there is nothing after what we have, so what we have is not the beginning of this file.
            if refusal.code == 416:
                part.unlink(missing_ok=True)
            elif refusal.code < 500:  # asking again will not help
                raise
            error = refusal
        except (OSError, HTTPException) as broken:
            error = broken
        if attempt == attempts - 1:
            raise error


def _continue(url, part, timeout):
    """Ask for the bytes that are missing in `part`, append them, and tell whether the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        # 200 means that the server does not know ranges and sends all of it again.
        append = answer.status == 206
        # http.client reports a connection cut in mid-file as a normal end, so the length is compared here.
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (have if append else 0)
        with open(part, "ab" if append else "wb") as file:
            while block := answer.read(2**16):
                file.write(block)
            size = file.tell()
    return expected is None or size >= expected


def fetch_mnist(*, url=MNIST_URL, folder=None):
    """Return the 60,000 + 10,000 MNIST digits and labels, downloaded once (11.6 MB) into pooch's cache.

    Returns
    -------
    dict of str to numpy.ndarray
        uint8 arrays `x_train` (60000, 28, 28), `y_train` (60000,), `x_test` (10000, 28, 28), `y_test`
        (10000,).

    References
    ----------
    LeCun, Cortes & Burges, The MNIST database of handwritten digits (CC BY-SA 3.0).
    """
    folder = pooch.os_cache("ir_helpers") if folder is None else folder
    paths = {key: fetch(url + name, md5, folder) for key, (name, md5) in MNIST_FILES.items()}
    return {key: read_idx(gzip.decompress(path.read_bytes())) for key, path in paths.items()}


def read_idx(content):
    """Decode an IDX file of unsigned bytes: 0 0 8 d, then d big-endian sizes, then the values."""
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"content must begin with the IDX magic 00 00 08, not {content[:3].hex(' ')}")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
