"""Where the built book is, and the sizes at which it is looked at."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGES = sorted(page.relative_to(HTML).as_posix() for page in HTML.glob("book/*.html"))
PHONE = {"width": 375, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
