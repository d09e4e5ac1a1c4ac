"""Copy the part of the front-end packages that the pages need: python assets.py NODE_MODULES TARGET.

Sphinx looks for the scripts under `_static`, so they go to TARGET/_static/vendor, and `html_extra_path` publishes
TARGET. (Under book/_static, Jupyter Book would add each of these files to every page.)
"""

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


def copy_assets(modules: Path, target: Path) -> None:
    vendor = target / "_static" / "vendor"
    shutil.rmtree(target, ignore_errors=True)
    for source, destination in COPIES.items():
        (vendor / destination).parent.mkdir(parents=True, exist_ok=True)
        if (modules / source).is_dir():
            shutil.copytree(modules / source, vendor / destination)
        else:
            shutil.copyfile(modules / source, vendor / destination)
    for font in (modules / "@jupyter-widgets/html-manager/dist").glob("*.woff2"):
        shutil.copyfile(font, vendor / "widgets" / font.name)


if __name__ == "__main__":
    copy_assets(Path(sys.argv[1]), Path(sys.argv[2]))
