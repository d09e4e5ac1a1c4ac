"""Downloads against a server on this machine that cuts, corrupts, stalls, trickles and sends elsewhere."""

import gzip
import hashlib
import os
import pwd
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ir_helpers import datasets, downloads, store


@pytest.fixture
def server():
    """A file server that can cut connections and worse; `server.ranges` lists what was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server, asked = self.server, self.headers.get("Range")
            server.ranges.append(asked)
            if self.path in server.strange:
                server.strange[self.path](self, asked)
                return
            if self.path not in server.files:
                self.send_error(503 if self.path == "/busy.bin" else 404)
                return
            content = server.files[self.path]
            first = (
                int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
            )
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked and server.knows_ranges else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            if server.cuts:
                server.cuts -= 1
                self.wfile.write(content[first : (first + len(content)) // 2])
                self.wfile.flush()
                server.hang.wait(5) if server.hangs else None
                self.close_connection = True
                return
            self.wfile.write(content[first:])

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """Say nothing: clients that go away in the middle are what is tested."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.strange, server.ranges, server.cuts = {}, {}, [], 0
        server.knows_ranges, server.hangs, server.hang = True, False, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.hang.set()
        server.shutdown()


CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.files["/a.bin"], server.cuts = CONTENT, 2
    path = downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=150000-", "bytes=225000-"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    assert len(server.ranges) == 3  # the second call finds the file


def test_a_later_call_goes_on_after_giving_up(server, tmp_path):
    server.files["/a.bin"], server.cuts = CONTENT, 1
    with pytest.raises(store.DataError, match=r"could not fetch .*a\.bin: the connection closed"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path, attempts=1)
    assert not (tmp_path / "a.bin").exists()
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=150000-"]


def test_a_server_that_falls_silent_is_given_up_in_time(server, tmp_path):
    server.files["/a.bin"], server.cuts, server.hangs = CONTENT, 2, True
    start = time.monotonic()
    with pytest.raises(store.DataError, match="timed out"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path, timeout=0.2, attempts=2)
    assert time.monotonic() - start < 4
    assert not (tmp_path / "a.bin").exists()


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.files["/a.bin"], server.cuts, server.knows_ranges = CONTENT, 1, False
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT


def test_a_wrong_file_is_never_kept(server, tmp_path):
    server.files["/a.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(store.DataError, match="hash"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_partial_file_that_is_too_long_is_dropped(server, tmp_path):
    server.files["/a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"tail")
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "requests"), [("missing.bin", 1), ("busy.bin", 3)])
def test_a_refusal_is_final_unless_the_server_is_at_fault(server, tmp_path, path, requests):
    with pytest.raises(store.DataError, match=f"could not fetch .*{path}: HTTP Error"):
        downloads.fetch(server.url + path, MD5, tmp_path, attempts=3)
    assert len(server.ranges) == requests
    assert not list(tmp_path.iterdir())


def test_mnist_is_fetched_decoded_and_kept(server, tmp_path, monkeypatch):
    arrays = {
        "x_train": np.random.default_rng(1).integers(0, 256, (5, 28, 28), dtype=np.uint8),
        "y_train": np.arange(5, dtype=np.uint8),
        "x_test": np.full((2, 28, 28), 255, np.uint8),
        "y_test": np.arange(2, dtype=np.uint8),
    }
    known = {}
    for key, array in arrays.items():
        magic = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        server.files[f"/{key}.gz"] = gzip.compress(magic + array.tobytes(), mtime=0)
        known[key] = (f"{key}.gz", hashlib.md5(server.files[f"/{key}.gz"]).hexdigest())
    monkeypatch.setattr(downloads, "MNIST_FILES", known)
    fetched = downloads.fetch_mnist(url=server.url, folder=tmp_path)
    assert all(np.array_equal(fetched[key], array) for key, array in arrays.items())
    downloads.fetch_mnist(url=server.url, folder=tmp_path)
    assert len(server.ranges) == 4

    monkeypatch.delenv("IR_DATA_DIR", raising=False)
    monkeypatch.setattr(downloads, "fetch_mnist", lambda: fetched)
    assert datasets.digits("train", full=True).shape == (5, 1, 28, 28)
    assert (datasets.digits("test", full=True) == 1).all()


def test_idx_of_another_type_is_refused():
    with pytest.raises(ValueError, match="IDX magic 00 00 08, not 00 00 0d"):
        downloads.read_idx(b"\x00\x00\x0d\x01" + bytes(8))


# --- a server that means harm, or is ill ---


def answer(handler, code, **headers):
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def redirects_to(address, code=302):
    return lambda handler, _: answer(handler, code, Location=address, Content_Length="0")


def trickle(handler, pieces):
    """Send a piece every 50 ms until the client or the test has had enough."""
    for piece in pieces:
        if handler.server.hang.wait(0.05):
            return
        handler.wfile.write(piece)
        handler.wfile.flush()


def trickles_its_body(handler, _):
    answer(handler, 200, Content_Length=str(len(CONTENT)))
    trickle(
        handler, (CONTENT[k : k + 9000] for k in range(0, len(CONTENT), 9000))
    )  # beyond the buffers of files


def trickles_its_header(handler, _):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    trickle(handler, [b"x"] * 200)


@pytest.mark.parametrize("strange", [trickles_its_body, trickles_its_header])
def test_a_server_that_trickles_is_given_up_in_time(strange, server, tmp_path):
    # Each byte comes within the timeout, so only the time of all attempts ends it.
    server.strange["/a.bin"] = strange
    start = time.monotonic()
    with pytest.raises(store.DataError, match=r"127\.0\.0\.1:\d+/a\.bin: it took longer than 0\.5 seconds"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path, timeout=5, longest=0.5)
    assert time.monotonic() - start < 3
    assert len(server.ranges) == 1
    assert not (tmp_path / "a.bin").exists()
    # The thread that was left behind closes its file and writes no more.
    time.sleep(0.2)
    before = [(path.name, path.stat().st_size) for path in tmp_path.iterdir()]
    time.sleep(0.3)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == before
    # What has come is kept, and the next call goes on from there.
    assert before == [] if strange is trickles_its_header else before[0][1] > 9000


def test_a_body_without_an_end_is_cut_off(server, tmp_path):
    sent = []

    def endless(handler, _):
        answer(handler, 200)
        while len(sent) < 1000:
            sent.append(handler.wfile.write(bytes(2**16)))

    server.strange["/a.bin"] = endless
    with pytest.raises(store.DataError, match=r"a\.bin: it is larger than 1,000,000 bytes"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path, largest=1_000_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0
    assert len(sent) < 500  # 33 MB: what did not fit the buffers of the network was not sent


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_to_another_host_is_followed_with_the_range(code, server, tmp_path):
    server.files["/b.bin"] = CONTENT
    other = server.url.replace("127.0.0.1", "localhost")
    server.strange["/a.bin"] = redirects_to(f"{other}b.bin", code)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    path = downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    assert path.name == "a.bin" and path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", "bytes=1000-"]


def test_redirections_in_a_circle_end(server, tmp_path):
    server.strange["/a.bin"] = redirects_to("/b.bin")
    server.strange["/b.bin"] = redirects_to("/a.bin")
    with pytest.raises(store.DataError, match=r"could not fetch .*a\.bin: .*infinite loop"):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    assert len(server.ranges) < 15
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_a_redirection_to_something_else_than_http_is_refused(scheme, server, tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(CONTENT)  # even with the right hash
    server.strange["/a.bin"] = redirects_to(
        {"file": secret.as_uri(), "ftp": "ftp://localhost/a.bin", "data": "data:,a"}[scheme]
    )
    with pytest.raises(store.DataError, match=rf"could not fetch .*a\.bin: .*{scheme}:.* not "):
        downloads.fetch(server.url + "a.bin", MD5, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("begin", "end", "followed"),
    [
        ("https://a/x", "http://b/x", False),
        ("https://a/x", "HTTPS://b/x", True),
        ("HTTPS://a/x", "http://b/x", False),
        ("http://a/x", "https://b/x", True),
        ("http://a/x", "ftp://b/x", False),
    ],
)
def test_a_redirection_never_leaves_encryption(begin, end, followed):
    handler = downloads._Redirections()
    request = downloads.urllib.request.Request(begin)
    if followed:
        assert handler.redirect_request(request, None, 302, "Found", {}, end).full_url == end
        return
    with pytest.raises(downloads.urllib.error.HTTPError, match="not followed"):
        handler.redirect_request(request, None, 302, "Found", {}, end)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/a.bin", "a.bin", "http:///a.bin", "http://host/", "http://host/..", "http://host/.a", "http://host/a\\b"],
)  # fmt: skip
def test_other_addresses_are_refused(url, tmp_path):
    with pytest.raises(ValueError, match="url must be an http or https address"):
        downloads.fetch(url, MD5, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_part_of_another_file_is_replaced_by_all_of_the_right_one(server, tmp_path):
    server.files["/a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(b"another file")
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=12-", None]


def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path):
    def other_range(handler, asked):
        if asked is None:
            answer(handler, 200, Content_Length=str(len(CONTENT)))
            whole = len(handler.server.ranges) > 1
            handler.wfile.write(CONTENT if whole else CONTENT[:50_000])
        else:
            answer(handler, 206, Content_Range=f"bytes 0-99/{len(CONTENT)}", Content_Length="100")
            handler.wfile.write(CONTENT[:100])

    server.strange["/a.bin"] = other_range
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=50000-", None]


def test_a_file_that_was_altered_in_the_folder_is_fetched_again(server, tmp_path):
    server.files["/a.bin"] = CONTENT
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1])
    assert downloads.fetch(server.url + "a.bin", MD5, tmp_path).read_bytes() == CONTENT


def test_nobody_there_is_named_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(store.DataError, match=r"could not fetch http://127\.0\.0\.1:9/a\.bin: .*refused"):
        downloads.fetch("http://127.0.0.1:9/a.bin", MD5, tmp_path)
    assert time.monotonic() - start < 5


@pytest.mark.skipif(downloads.fcntl is None, reason="without fcntl, two processes do not wait for each other")
def test_many_at_once_fetch_one_file_once(server, tmp_path):
    # Each call opens the folder anew, so threads wait for each other as processes do.
    server.files["/a.bin"], server.cuts = CONTENT, 3
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: downloads.fetch(server.url + "a.bin", MD5, tmp_path), range(6)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.ranges[0] is None and len(server.ranges) == 4


# --- where MNIST is kept ---


def test_without_a_home_the_reader_hears_where_else(tmp_path, monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    for name in ("HOME", "XDG_CACHE_HOME", "IR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(store.DataError, match=r"no home folder.*full=False.*XDG_CACHE_HOME.*IR_DATA_DIR"):
        datasets.digits("test", full=True)
    assert not list(tmp_path.iterdir())  # and no folder called ~


def test_without_a_network_the_reader_hears_what_else_to_do(tmp_path):
    with pytest.raises(
        store.DataError, match=r"could not fetch http://127\.0\.0\.1:9/train-images.*full=False"
    ):
        downloads.fetch_mnist(url="http://127.0.0.1:9/", folder=tmp_path)


def test_a_folder_that_all_may_read_serves_a_class(server, tmp_path):
    """A file that a teacher fetched is used without writing anything beside it."""
    server.files["/a.bin"] = CONTENT
    path = downloads.fetch(server.url + "a.bin", MD5, tmp_path)
    before = os.stat(tmp_path).st_mtime_ns
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert downloads.fetch(server.url + "a.bin", MD5, tmp_path) == path
    finally:
        tmp_path.chmod(stat.S_IRWXU)
    assert os.stat(tmp_path).st_mtime_ns == before  # for root, whom no permission stops
    assert len(server.ranges) == 1
