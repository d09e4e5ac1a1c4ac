"""A Chromium, a local server, and what was seen on each page of the built book."""

import functools
import http.server
import os
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
    """An open page, with everything that it asked for and complained about."""

    def __init__(self, context, base: str, name: str):
        self.name = name
        self.foreign, self.failed, self.errors = [], [], []
        self.page = context.new_page()
        self.page.add_init_script(WATCH_POLICY)
        self.page.on("request", lambda r: self._check_host(r.url, base))
        self.page.on("requestfailed", lambda r: self.failed.append(f"{r.url}: {r.failure}"))
        self.page.on(
            "response", lambda r: self.failed.append(f"{r.url}: {r.status}") if r.status >= 400 else None
        )
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(base + name, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        if self.has_explorer:
            self.page.wait_for_selector(".widget-image img, img.widget-image", state="visible")

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
    """Visit every page twice: over http:// and over file://."""
    if "visit" in metafunc.fixturenames:
        visits = [(scheme, page) for scheme in ("http", "file") for page in PAGES]
        ids = [f"{scheme}-{Path(page).stem}" for scheme, page in visits]
        metafunc.parametrize("visit", visits, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def visit(request, context, addresses):
    scheme, name = request.param
    visit = Visit(context, addresses[scheme], name)
    yield visit
    visit.page.close()
