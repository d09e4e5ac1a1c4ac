"""Copy the part of the front-end packages that the pages need: python assets.py NODE_MODULES TARGET.

Sphinx looks for the scripts under `_static`, so they go to TARGET/_static/vendor, and `html_extra_path` publishes
TARGET. (Under book/_static, Jupyter Book would add each of these files to every page.)
"""

import re
import shutil
import sys
from pathlib import Path

COPIES = {
    "mathjax/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
    "mathjax/es5/input/tex": "mathjax/input/tex",
    "mathjax/es5/output/chtml/fonts": "mathjax/output/chtml/fonts",
    "mathjax/LICENSE": "mathjax/LICENSE",
    "@jupyter-widgets/html-manager/dist/embed.js": "widgets/embed.js",
    "@jupyter-widgets/html-manager/dist/embed.js.LICENSE.txt": "widgets/embed.js.LICENSE.txt",
}
# The widget manager compares the state in a page with a schema, by code that it writes while it runs. A policy that forbids
# such code (policy.py) would stop all widgets. Our pages bring the state that the widgets themselves wrote.
VALIDATORS = re.compile(r"(\w+)=new\(\w+\(\)\),(\w+)=\1\.compile\(\w+\),(\w+)=\1\.compile\(\w+\);")


def without_validators(script: str) -> str:
    """Return the widget manager without its check of schemas."""
    script, count = VALIDATORS.subn(r"\2=()=>true,\3=()=>true;", script)
    if count != 1:
        raise ValueError(
            f"embed.js of the widget manager has {count} places that compile its two schemas, not 1"
        )
    return script


def copy_assets(modules: Path, target: Path) -> None:
    vendor = target / "_static" / "vendor"
    shutil.rmtree(target, ignore_errors=True)
    for source, destination in COPIES.items():
        (vendor / destination).parent.mkdir(parents=True, exist_ok=True)
        if (modules / source).is_dir():
            shutil.copytree(modules / source, vendor / destination)
        else:
            shutil.copyfile(modules / source, vendor / destination)
    embed = vendor / "widgets" / "embed.js"
    embed.write_text(without_validators(embed.read_text(encoding="utf-8")), encoding="utf-8")
    for font in (modules / "@jupyter-widgets/html-manager/dist").glob("*.woff2"):
        shutil.copyfile(font, vendor / "widgets" / font.name)


if __name__ == "__main__":
    copy_assets(Path(sys.argv[1]), Path(sys.argv[2]))
