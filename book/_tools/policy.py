"""Write the Content-Security-Policy of the built pages into `_headers`, which static hosts read: python policy.py HTML.

A page may load what comes with it and nothing else, and of the scripts that are written into pages only those run that are
listed here by their hash. A `<meta>` element in each page would say the same, but pages opened from the disk have no 'self'
that a policy could name. So the policy travels beside the pages, and the server sends it.
"""

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

# directive: (sources, the reason for each that is not 'self')
POLICY = {
    "default-src": ("'self'", "all files come with the pages"),
    "script-src": (
        "'self'",
        "and a few short scripts that the theme and its extensions write into pages, by hash",
    ),
    "style-src": (
        "'self' 'unsafe-inline'",
        "MathJax, the widget manager and the tables of pandas write styles into the page",
    ),
    "img-src": ("'self' data: blob:", "icons of the theme are data:, pictures of explorers are blob:"),
    "object-src": ("'none'", "no page has plug-ins"),
    "base-uri": ("'none'", "no page moves its own address"),
    "form-action": ("'self'", "the search"),
    "frame-ancestors": (
        "'self'",
        "no other site frames the pages; a course that does so adds its address here",
    ),
}
# What the theme writes in a way that no policy of one line for all pages could allow. book.js prints in its stead.
PAGE_NAME = re.compile(r"<script>DOCUMENTATION_OPTIONS\.pagename = '([\w/.-]+)';</script>")
SAME_FOR_ALL = "DOCUMENTATION_OPTIONS.pagename = document.currentScript.dataset.pagename;"
PRINT = re.compile(r'<button onclick="window\.print\(\)"')
LONGEST = 2000  # characters: some hosts read no longer line


class Inline(HTMLParser):
    """Collect what a page runs by itself: the text of scripts, and handlers in attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts, self.handlers, self._runs = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = {name: value or "" for name, value in attributes}
        kind = values.get("type", "")
        # Blocks of data, such as the state of the widgets, are not run.
        self._runs = (
            tag == "script" and "src" not in values and ("javascript" in kind or kind in ("", "module"))
        )
        self.handlers += [f'{name}="{value}"' for name, value in values.items() if name.startswith("on")]
        self.handlers += [v for v in values.values() if v.strip().lower().startswith("javascript:")]

    def handle_endtag(self, tag):
        self._runs = False

    def handle_data(self, data):
        if self._runs:
            self.scripts.append(data)


def mend(text: str) -> str:
    """Return a page with the same inline scripts as every other one, and without handlers in attributes."""
    text = PAGE_NAME.sub(rf'<script data-pagename="\1">{SAME_FOR_ALL}</script>', text)
    return PRINT.sub("<button", text)


def source_of(script: str) -> str:
    """Return how a policy names a script.

    >>> source_of("alert('Hello, world.');")
    "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def policy(pages: dict[str, str]) -> str:
    """Return the policy under which pages, given by name, work; raise ValueError for what it could not allow."""
    read = {name: Inline(text) for name, text in pages.items()}
    for name, page in read.items():
        if page.handlers:
            raise ValueError(f"{name} has code in attributes, which the policy forbids: {page.handlers[:3]}")
    hashes = sorted({source_of(script) for page in read.values() for script in page.scripts})
    more = {"script-src": hashes}
    line = "; ".join(" ".join([name, sources, *more.get(name, [])]) for name, (sources, _) in POLICY.items())
    if len(line) > LONGEST:
        raise ValueError(
            f"the policy has {len(line)} characters: {len(hashes)} different scripts are written into pages"
        )
    return line


def pages_of(html: Path) -> list[Path]:
    """Return the pages of the book; those below `_static` are templates of the theme."""
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.relative_to(html).parts)


def publish(html: Path) -> None:
    """Mend the pages in a folder and write `_headers` beside them."""
    pages = {}
    for path in pages_of(html):
        old = path.read_text(encoding="utf-8")
        pages[path.relative_to(html).as_posix()] = new = mend(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
    headers = f"/*\n  Content-Security-Policy: {policy(pages)}\n  X-Content-Type-Options: nosniff\n"
    (html / "_headers").write_text(headers, encoding="utf-8")


if __name__ == "__main__":
    try:
        publish(Path(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"No Content-Security-Policy: {error}")
