"""Tables made again: what must be equal, what may differ by how much, and that a fault is named."""

import pandas as pd
import pytest

from ir_helpers import bands, recipes, store

TABLE = pd.DataFrame(
    {
        "method": ["plain"] * 4 + ["noise"] * 2,
        "seed": [0, 1, 0, 1, 0, 1],
        "radius": [0.5, 0.5, 1.0, 1.0, 0.5, 0.5],
        "rho": [4.0, 4.4, 9.0, 9.5, 3.0, 3.1],
        "psnr": [23.1, 23.2, 20.1, 20.2, 24.1, 24.2],
        "loss": [1.5, 1.6, float("nan"), 1.4, 2.0, 2.5],
        "images": [1000] * 6,
        "seconds": [10.5, 11.5, 12.5, 9.5, 8.5, 7.5],
        "device": ["one"] * 6,
    }
)


def changed(row, column, value):
    table = TABLE.copy()
    table.loc[row, column] = value
    return table


def faults(table, old=TABLE):
    return bands.compare({"results/t.csv": table}, {"results/t.csv": old})


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, "rho", 4.4 * 1.09),  # the other seed's, and nearly a band above it
        (1, "rho", 4.0 * 0.91),
        (0, "psnr", 23.2 * 1.029),
        (0, "loss", 1.6 * 1.14),
        (0, "seconds", 1e6),
        (0, "device", "another"),
    ],
)
def test_what_lies_within_its_band_passes(row, column, value):
    assert faults(changed(row, column, value)) == []


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, "rho", 4.4 * 1.11),
        (1, "rho", 4.0 * 0.89),
        (5, "rho", 4.0),  # fine for the other method only
        (2, "rho", 4.0),  # fine for the other radius only
        (0, "psnr", 23.2 * 1.031),
        (0, "loss", 1.6 * 1.16),
        (0, "loss", float("nan")),
        (2, "loss", 1.4),  # shipped without a number
        (0, "rho", float("nan")),
        (0, "rho", float("inf")),
        (0, "images", 999),
        (0, "radius", 0.502),
        (0, "seed", 2),
        (0, "method", "common"),
    ],
)
def test_what_lies_outside_is_named_with_file_row_column_and_both_values(row, column, value):
    (fault,) = faults(changed(row, column, value))
    assert f"results/t.csv, row {row + 1} (" in fault
    assert f"): {column} is {value}, shipped {TABLE[column][row]}" in fault


def test_single_images_scatter_more_but_not_without_bounds():
    old = pd.DataFrame({"method": ["plain"] * 2, "image": [0, 1], "error": [15.5, 36.5]})
    assert faults(old.assign(error=[15.5 * 1.4, 36.5 * 0.6]), old) == []
    assert len(faults(old.assign(error=[15.5 * 1.6, 36.5 * 0.4]), old)) == 2
    whole = old.drop(columns="image")
    assert len(faults(whole.assign(error=[15.5 * 1.4, 36.5 * 0.6]), whole)) == 2


def test_empty_cells_equal_each_other_and_nothing_else():
    old = pd.DataFrame({"reason": [None, "needs a GPU", None], "error": [1.5, None, None]})
    assert faults(old, old) == []
    (fault,) = faults(old.assign(reason=["needs a GPU", "needs a GPU", None]), old)
    assert "row 1" in fault and "reason is needs a GPU, shipped" in fault
    assert len(faults(old.assign(reason=[None, None, None]), old)) == 1
    assert len(faults(old.assign(error=[1.5, 2.5, None]), old)) == 1


def test_a_table_that_is_missing_or_has_another_shape_is_named():
    assert bands.compare({}, {"results/t.csv": TABLE}) == ["results/t.csv: was not made"]
    for table in (TABLE.iloc[:-1], TABLE.drop(columns="psnr"), TABLE[TABLE.columns[::-1]]):
        assert len(faults(table)) == 1 and faults(table)[0].startswith("results/t.csv: ")


def test_every_shipped_table_agrees_with_itself_and_not_with_a_wrong_one():
    names = [name for name in store.manifest()["file"] if name.endswith(".csv")]
    shipped = {name: store.load_table(name[len("results/") : -len(".csv")]) for name in names}
    assert shipped and bands.compare(shipped, shipped) == []
    for name, table in shipped.items():
        measured = [c for c in table.select_dtypes("float") if c not in bands.NOT_COMPARED | {"settings"}]
        for column in measured:
            wrong = table.copy()
            wrong[column] = wrong[column] * 3 + 1
            lines = bands.compare({name: wrong}, {name: table})
            assert lines and all(f"{name}, row" in line and f"): {column} is" in line for line in lines)


def test_the_command_compares_a_folder_with_the_book_s(tmp_path, monkeypatch, capsys):
    for folder, table in {"data": TABLE, "same": TABLE, "other": changed(0, "rho", 40.0)}.items():
        (tmp_path / folder / "results").mkdir(parents=True)
        table.to_csv(tmp_path / folder / "results" / "t.csv", index=False)
    recipe = recipes.Recipe("tiny", "", ("weights/w.safetensors", "results/t.csv"), None)
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipe)
    monkeypatch.setattr(store, "DATA", tmp_path / "data")

    def run(folder):
        return recipes.main(["compare", "tiny", "--out", str(tmp_path / folder)]), capsys.readouterr().out

    assert run("same") == (0, "1 tables agree within their bands.\n")
    status, text = run("other")
    assert status == 1 and "results/t.csv, row 1 (method plain" in text and "rho is 40.0, shipped 4.0" in text
    assert run("nowhere") == (1, "results/t.csv: was not made\n")
    (tmp_path / "data" / "results" / "t.csv").unlink()
    assert run("same")[0] == 1
