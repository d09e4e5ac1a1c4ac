"""Offer the executed notebook of a page in its download menu (the theme alone offers the Markdown source)."""

from pathlib import Path


def add_notebook_button(app, pagename, templatename, context, doctree):
    """Put the notebook first in the menu; `make book` publishes it beside the page."""
    notebook = Path(app.outdir).parent / "executed" / f"{Path(pagename).name}.ipynb"
    if not notebook.is_file():
        return
    for button in context.get("header_buttons", []):
        if button.get("label") == "download-buttons":
            button["buttons"].insert(
                0,
                {
                    "type": "link",
                    "url": notebook.name,
                    "text": ".ipynb",
                    "icon": "fas fa-code",
                    "tooltip": "Download the executed notebook",
                    "label": "download-notebook-button",
                },
            )


def setup(app):
    # After the theme, which fills the menu at priority 501.
    app.connect("html-page-context", add_notebook_button, priority=600)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
