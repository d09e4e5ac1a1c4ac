"""Buttons that open a chapter on Binder or Colab, from one setting: ``repository: {url, branch}`` in _config.yml.

Without that address there is no public copy to open, so no page shows a button. The theme's own buttons would open the text
of a chapter; these open notebooks: Binder makes them when it starts (.binder/postBuild), Colab takes them from the branch
``colab``, which `make colab` prepares. Both need a network; a page never asks for them by itself.
"""

from urllib.parse import quote, urlsplit

BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
COLAB_BRANCH = "colab"


def launch_links(url, branch, page):
    """Return (service, address) for a page: Colab opens GitHub's repositories, Binder those of any host.

    >>> dict(launch_links("https://github.com/someone/book", "main", "mnist"))["Colab"]
    'https://colab.research.google.com/github/someone/book/blob/colab/mnist.ipynb'
    """
    parts = urlsplit(url.rstrip("/").removesuffix(".git"))
    github = parts.netloc == "github.com" and parts.path.count("/") == 2
    place = f"gh{parts.path}" if github else f"git/{quote(url, safe='')}"
    lab = quote(f"lab/tree/_build/notebooks/{page}.ipynb", safe="")
    links = [("Binder", f"{BINDER}/v2/{place}/{quote(branch, safe='')}?urlpath={lab}")]
    if github:
        links.append(("Colab", f"{COLAB}/github{parts.path}/blob/{COLAB_BRANCH}/{page}.ipynb"))
    return links


def add_launch_buttons(app, pagename, templatename, context, doctree):
    """Add a menu with the services to a page that is a notebook."""
    url = app.config.html_theme_options.get("repository_url")
    if not url or "kernelspec" not in app.env.metadata.get(pagename, {}):
        return
    branch = app.config.html_theme_options.get("repository_branch") or "main"
    context["header_buttons"].append(
        {
            "type": "group",
            "tooltip": "Run this chapter on the web",
            "icon": "fas fa-rocket",
            "label": "launch-buttons",
            "buttons": [
                {
                    "type": "link",
                    "text": service,
                    "tooltip": f"Run on {service} (needs a network)",
                    "icon": "fas fa-rocket",
                    "url": address,
                    "label": f"launch-{service.lower()}-button",
                }
                for service, address in launch_links(url, branch, pagename.rsplit("/", 1)[-1])
            ],
        }
    )


def setup(app):
    # After the theme, which fills the menus at priority 501.
    app.connect("html-page-context", add_launch_buttons, priority=600)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
