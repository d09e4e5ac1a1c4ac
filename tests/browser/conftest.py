"""A Chromium, a local server, and what was seen on each page of the built book."""

import functools
import http.server
import os
import re
import shutil
import threading
from pathlib import Path

import pytest
from built import DESKTOP, HTML, PAGES, headers

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built pages."""
    assert (HTML / "index.html").is_file(), "the book is not built: run `make book` first"
    return HTML


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for all tests; without one they are skipped, but on CI they must run."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found, and CI must run the browser tests: see .ci/run")
        pytest.skip("no Chromium on this machine (set CHROMIUM to the path of one)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing: the tests report what matters."""

    def end_headers(self):
        """Send the policy of the pages, so that every test over http:// runs under it."""
        for name, value in headers().items():
            self.send_header(name, value)
        super().end_headers()


@pytest.fixture(scope="session")
def addresses(html):
    """Base addresses of the book: from a local server, and straight from the disk."""
    handler = functools.partial(QuietHandler, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"http": f"http://127.0.0.1:{server.server_port}/", "file": html.as_uri() + "/"}
    server.shutdown()


WATCH_POLICY = """window.violations = [];
document.addEventListener("securitypolicyviolation", e =>
  window.violations.push(`${e.effectiveDirective} refused ${e.blockedURI} ${e.sample} (${e.sourceFile}:${e.lineNumber})`));"""


class Visit:
    """A page, opened in a tab, with everything that it asked for and complained about.

    Tabs serve many visits: to open and close one costs as much work as to load a small page.
    """

    def __init__(self, tab, base: str, name: str):
        self.page, self.name = tab, name
        self.foreign, self.failed, self.errors = [], [], []
        self._watched = {
            "request": lambda r: self._check_host(r.url, base),
            "requestfailed": lambda r: self.failed.append(f"{r.url}: {r.failure}"),
            "response": lambda r: self.failed.append(f"{r.url}: {r.status}") if r.status >= 400 else None,
            "console": lambda m: self.errors.append(m.text) if m.type == "error" else None,
            "pageerror": lambda error: self.errors.append(str(error)),
        }
        for event, note in self._watched.items():
            tab.on(event, note)
        tab.set_viewport_size(DESKTOP)
        tab.goto(base + name, wait_until="load")
        tab.evaluate("() => window.MathJax?.startup?.promise")
        if self.has_explorer:
            tab.wait_for_selector(".widget-image img, img.widget-image", state="visible")

    def leave(self):
        """End the visit: what the tab does from now on is of no concern."""
        for event, note in self._watched.items():
            self.page.remove_listener(event, note)
        self.page.goto("about:blank")

    @property
    def violations(self) -> list[str]:
        """What the policy of the pages refused so far."""
        return self.page.evaluate("() => window.violations")

    @property
    def has_explorer(self) -> bool:
        return self.page.locator("script[type='application/vnd.jupyter.widget-view+json']").count() > 0

    def _check_host(self, url: str, base: str) -> None:
        if not url.startswith((base, "data:", "blob:")):
            self.foreign.append(url)


def pytest_generate_tests(metafunc):
    """Visit every page twice: over http://, as a reader who asked for less motion, and over file://."""
    if "visit" in metafunc.fixturenames:
        schemes = ("http",) if "opened" in metafunc.fixturenames else ("http", "file")
        visits = [(scheme, page) for scheme in schemes for page in PAGES]
        ids = [f"{scheme}-{Path(page).stem}" for scheme, page in visits]
        metafunc.parametrize("visit", visits, ids=ids, indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal out the tests by group, with -n: the next group goes to the worker that is free, the largest come first."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    return ByGroup(config, log)


def group(nodeid: str) -> str:
    """Name what one worker does in one go: a chapter, the tests of a page or a deck, loaded once, or those of the files."""
    file, test = nodeid.split("::", 1)
    if file.endswith(".ipynb"):
        return file
    name = Path(file).stem
    if name in ("test_files", "test_readers"):
        return "files"  # a large group, so that the sixty readers come early: they wait more than they work
    if visited := re.search(r"\[(http|file)-\w+", test):
        return visited[0]
    return f"deck {test.split('[')[-1]}" if name == "test_slides" else nodeid


def open_context(browser, **settings):
    context = browser.new_context(viewport=DESKTOP, **settings)
    context.set_default_timeout(15_000)
    context.add_init_script(WATCH_POLICY)
    return context


@pytest.fixture(scope="module")
def context(browser):
    context = open_context(browser)
    yield context
    context.close()


@pytest.fixture(scope="session")
def tabs(browser):
    """The tabs that pages are visited in: apart from those of other tests, which change the theme for good."""
    contexts = {"http": open_context(browser, reduced_motion="reduce"), "file": open_context(browser)}
    yield {scheme: context.new_page() for scheme, context in contexts.items()}
    for context in contexts.values():
        context.close()


@pytest.fixture(scope="session")
def visit(request, tabs, addresses):
    scheme, name = request.param
    visit = Visit(tabs[scheme], addresses[scheme], name)
    yield visit
    visit.leave()
