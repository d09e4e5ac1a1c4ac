"""Each shipped network's numbers are found again: its clean and its worst-case error, on images of the book."""

import pytest
import shipped

from ir_helpers import networks, store


def book_s_tables(stem):
    known = set(store.manifest()["file"])
    return store.load_table(stem) if f"results/{stem}.csv" in known else None


@pytest.mark.parametrize("name", networks.list_pretrained())
def test_its_numbers_are_found_again(name, monkeypatch):
    monkeypatch.delenv("IR_DATA_DIR", raising=False)  # the same images for everyone
    found = shipped.rechecks(name, networks.pretrained(name), book_s_tables)
    assert found, f"no table has a number of {name} that the images of the book can give"
    assert [each for each in found if not each.holds] == []


@pytest.mark.parametrize("name", ["mnist-gaussian/plain", "mnist-gaussian/min-max"])
@pytest.mark.parametrize("factor", [0.998, 1.002])
def test_a_table_with_another_clean_error_is_seen(name, factor):
    def tables(stem):
        table = book_s_tables(stem) if stem == "mnist-gaussian" else None
        return table if table is None else table.assign(rho=factor * table["rho"])

    (only,) = shipped.rechecks(name, networks.pretrained(name), tables)
    assert not only.holds and only.table == "mnist-gaussian" and only.what == "clean error"


@pytest.mark.parametrize("factor", [0.92, 1.15])
def test_a_table_with_other_worst_cases_is_seen(factor):
    def tables(stem):
        table = book_s_tables(stem) if stem == "mnist-gaussian-images" else None
        return table if table is None else table.assign(error=factor * table["error"])

    (only,) = shipped.rechecks("mnist-gaussian/common", networks.pretrained("mnist-gaussian/common"), tables)
    assert not only.holds and only.what == "worst-case error"


def test_a_network_with_the_weights_of_another_is_seen():
    f = networks.pretrained("mnist-gaussian/min-max")
    found = shipped.rechecks("mnist-gaussian/plain", f, book_s_tables)
    assert len(found) == 2 and not any(each.holds for each in found)
