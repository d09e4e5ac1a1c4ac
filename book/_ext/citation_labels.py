"""The list of references names each work as the text does: authors and year."""

from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle


def label(entry):
    """Return "Raj et al., 2020", the form of ``bibtex_reference_style: author_year``."""
    people = entry.persons.get("author") or entry.persons.get("editor")
    names = [" ".join(map(str, person.rich_prelast_names + person.rich_last_names)) for person in people]
    authors = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{authors}, {entry.fields['year']}"


class AuthorYearLabels(BaseLabelStyle):
    """Labels of authors and year."""

    def format_labels(self, sorted_entries):
        """Give each entry its label."""
        return [label(entry) for entry in sorted_entries]


class AuthorYear(Style):
    """Entries in the order of authors and years."""

    default_label_style = AuthorYearLabels
    default_sorting_style = "author_year_title"


def setup(app):
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
