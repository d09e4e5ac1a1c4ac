"""A class opens the book at once: sixty readers, one small server, no error."""

import http.client
import re
import subprocess
import sys
import threading
import time
import urllib.request
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from built import HTML, PAGES
from test_files import Links

READERS = 60
PAGES_EACH = 3
LIMIT = 180.0  # seconds for all, on a busy machine of two cores; an idle one takes some ten for these 460 MB


@pytest.fixture
def address(html):
    """Python's own server, as a teacher would start it."""
    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(html),
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def files_of(name):
    """Return a page and the files that a browser fetches with it, as paths below the built pages."""
    loaded = Links((HTML / name).read_text(encoding="utf-8")).loaded
    paths = [
        unquote(urlsplit(urljoin(name, target)).path) for target in loaded if not urlsplit(target).scheme
    ]
    return [name, *sorted(paths)]


def read(address, paths):
    """Fetch files, each once; return their number and what was wrong."""
    wrong, paths = [], list(dict.fromkeys(paths))
    for path in paths:
        with urllib.request.urlopen(address + path, timeout=LIMIT) as answer:
            body, status = answer.read(), answer.status
        if status != 200 or body != (HTML / path).read_bytes():
            wrong.append(f"{path}: status {status}, {len(body)} bytes")
    return len(paths), wrong


def test_sixty_readers_open_the_book_at_once(address):
    files = {name: files_of(name) for name in PAGES}
    found, gate = {}, threading.Barrier(READERS + 1)

    def reader(number):
        names = [PAGES[(number + k * len(PAGES) // PAGES_EACH) % len(PAGES)] for k in range(PAGES_EACH)]
        gate.wait()
        try:
            found[number] = read(address, [path for name in names for path in files[name]])
        except (OSError, http.client.HTTPException) as error:
            found[number] = (0, [repr(error)])

    threads = [threading.Thread(target=reader, args=(number,), daemon=True) for number in range(READERS)]
    for thread in threads:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join(LIMIT)
    assert {number: wrong for number, (_, wrong) in found.items() if wrong} == {}
    assert len(found) == READERS, "some readers still wait"
    assert min(count for count, _ in found.values()) > 20
    assert time.perf_counter() - start < LIMIT
