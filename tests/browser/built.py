"""Where the built book is, and the sizes at which it is looked at."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGES = sorted(page.relative_to(HTML).as_posix() for page in HTML.glob("book/*.html"))
OTHERS = sorted(  # the search, the index, the sources of the package
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if path.relative_to(HTML).parts[0] not in ("book", "_static")
)
PHONE = {"width": 375, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


def headers() -> dict[str, str]:
    """What `make book` asks a server to send with every file."""
    lines = (HTML / "_headers").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "/*"
    return dict(line.strip().split(": ", 1) for line in lines[1:])
