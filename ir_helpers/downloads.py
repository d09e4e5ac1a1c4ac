"""Fetch files: a broken download goes on where it stopped, and only a whole, right file is kept."""

import contextlib
import gzip
import os
import re
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pooch

from ir_helpers.files import DataError

try:
    import fcntl
except ImportError:  # Windows: there two processes should not fetch one file at the same time
    fcntl = None

__all__ = ["MNIST_FILES", "MNIST_URL", "fetch", "fetch_mnist", "read_idx"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {  # array name: (file name, MD5 of the compressed file)
    "x_train": ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "y_train": ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    "x_test": ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    "y_test": ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
}


_OTHERWISE = (
    "full=False needs no download, the environment variable XDG_CACHE_HOME names another folder to keep files in, and "
    "IR_DATA_DIR a folder with mnist.npz"
)


def fetch(url, md5, folder, *, timeout=20.0, attempts=4, longest=1800.0, largest=2**30):
    """Download `url` into `folder`, unless it is there already.

    Bytes arrive in `<name>.part`. When the connection breaks, the next attempt, also one in a later process,
    asks the server for the rest only. The file gets its name after its MD5 was found right. Other processes that want a
    file of the same folder wait.

    Parameters
    ----------
    url : str
        Address of the file, http or https; its last part is the file's name. Redirections to another host are followed,
        those from https to anything else are not.
    md5 : str
        Expected MD5, 32 hexadecimal digits.
    folder : path-like
        Where the file is kept.
    timeout : float
        Seconds without a byte after which an attempt counts as broken.
    attempts : int
        How many times to connect before giving up.
    longest : float
        Seconds for all attempts together: a server may send a byte now and then, for ever.
    largest : int
        Bytes after which a file is taken for a wrong one.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If `url` is no address of a file for http or https.
    DataError
        If the server cannot be reached, or what it sent has another MD5. The text names the address.
    """
    folder, name = Path(folder), url.rsplit("/", 1)[-1]
    if not re.match(r"https?://[^/]", url) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"url must be an http or https address that ends with a file's name, got {url!r}")
    part = folder / f"{name}.part"
    begun_before = part.exists()

    def downloader(url, output_file, _):
        _resume(url, part, timeout, attempts, longest, largest)
        os.replace(part, output_file)  # pooch's temporary name, in the same folder

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            for last in [False, True] if begun_before else [True]:
                try:
                    return Path(pooch.retrieve(url, f"md5:{md5}", name, folder, downloader=downloader))
                except ValueError:  # the hash: the part may be of another file, so all of it again
                    if last:
                        raise
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"could not fetch {url}: {error}") from error


@contextlib.contextmanager
def _alone(folder):
    """Wait for other processes that fetch into the folder: two would append to one file."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network folders know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _resume(url, part, timeout, attempts, longest, largest):
    end = time.monotonic() + longest
    for attempt in range(attempts):
        try:
            if _in_time(end, longest, lambda stop: _continue(url, part, timeout, largest, stop)):
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
        if attempt == attempts - 1 or isinstance(error, _TooLong):
            raise error


class _TooLong(OSError):
    """All the time for a file is spent."""


def _in_time(end, longest, attempt):
    """Return what ``attempt(stop)`` returns, or leave it behind when the time is over.

    In a thread, since the timeout of a socket begins anew with each byte, also of the header that urllib waits for.
    """
    outcome, stop = [], threading.Event()

    def work():
        try:
            outcome.append((attempt(stop), None))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(max(0.0, end - time.monotonic()))
    finally:
        stop.set()  # a thread that is left behind writes no more
    if not outcome:
        raise _TooLong(f"it took longer than {longest:g} seconds")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follow redirections to http and https, but not from https to http; urllib ends loops."""

    def redirect_request(self, request, answer, code, text, headers, address):
        kept = ("https://",) if request.full_url.lower().startswith("https://") else ("http://", "https://")
        if not address.lower().startswith(kept):
            text = f"it redirects to {address}, which is not followed"
            raise urllib.error.HTTPError(request.full_url, code, text, headers, answer)
        return super().redirect_request(request, answer, code, text, headers, address)


def _continue(url, part, timeout, largest, stop):
    """Ask for the bytes that are missing in `part`, append them, and tell whether the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.build_opener(_Redirections).open(request, timeout=timeout) as answer:
        # 200 means that the server does not know ranges and sends all of it again.
        append = answer.status == 206
        begin = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if append and begin is not None and int(begin[1]) != have:
            part.unlink(missing_ok=True)
            raise OSError(f"the server sent bytes from {begin[1]} instead of {have}")
        # http.client reports a connection cut in mid-file as a normal end, so the length is compared here.
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (have if append else 0)
        if stop.is_set():
            return False
        with open(part, "ab" if append else "wb") as file:
            # read1 and not read: bytes that trickle in are kept as they come.
            while not stop.is_set() and (block := answer.read1(2**16)):
                file.write(block)
                if file.tell() > largest:
                    file.truncate(0)
                    raise ValueError(f"it is larger than {largest:,} bytes")
            size = file.tell()
    return expected is None or size >= expected


def fetch_mnist(*, url=MNIST_URL, folder=None):
    """Return the 60,000 + 10,000 MNIST digits and labels, downloaded once (11.6 MB) into pooch's cache.

    Returns
    -------
    dict of str to numpy.ndarray
        uint8 arrays `x_train` (60000, 28, 28), `y_train` (60000,), `x_test` (10000, 28, 28), `y_test`
        (10000,).

    Raises
    ------
    DataError
        If the files cannot be fetched, or there is no folder to keep them in.

    References
    ----------
    LeCun, Cortes & Burges, The MNIST database of handwritten digits (CC BY-SA 3.0).
    """
    folder = _cache() if folder is None else folder
    try:
        paths = {key: fetch(url + name, md5, folder) for key, (name, md5) in MNIST_FILES.items()}
    except DataError as error:
        raise DataError(f"{error}; {_OTHERWISE}") from error
    return {key: read_idx(gzip.decompress(path.read_bytes())) for key, path in paths.items()}


def _cache():
    try:
        folder = Path(pooch.os_cache("ir_helpers"))
    except RuntimeError:
        folder = Path("~")  # as older versions of platformdirs answer
    if folder.is_absolute():
        return folder
    raise DataError(f"there is no home folder to keep MNIST in; {_OTHERWISE}")


def read_idx(content):
    """Decode an IDX file of unsigned bytes: 0 0 8 d, then d big-endian sizes, then the values."""
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"content must begin with the IDX magic 00 00 08, not {content[:3].hex(' ')}")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
