"""Names in tables stay as they are written, and no cell slips below another column's name."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ermoe_ba.cohort import read_participants
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.inputs import Selection, find_scans
from ermoe_ba.label_tables import read_labels
from ermoe_ba.tables import read_predictions, read_tsv
from ermoe_ba.training.run_folder import read_run_table
from ermoe_ba.training_scans import read_training_scans

# What pandas by itself would take for a number, a gap or a truth.
NAMES = ["007", "1e5", "NA", "n/a", "", "True", "nan"]


def _written(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_names_stay_as_they_are_written(tmp_path: Path) -> None:
    path = _written(tmp_path / "x.tsv", [["name", "years"], *([name, "30"] for name in NAMES)])
    table = read_tsv(path)
    assert table["name"].tolist() == NAMES
    assert table["years"].tolist() == ["30"] * 7
    assert isinstance(table.index, pd.RangeIndex)


def test_columns_that_hold_no_names_are_numbers_where_that_is_asked(tmp_path: Path) -> None:
    path = _written(tmp_path / "x.tsv", [["name", "years"], *([name, "030"] for name in NAMES)])
    table = read_tsv(path, text=["name", "not there"])
    assert table["name"].tolist() == NAMES
    assert table["years"].tolist() == [30] * 7


def test_gaps_are_what_is_called_one_and_a_short_row_ends_empty(tmp_path: Path) -> None:
    rows = [["name", "age"], ["NA", "89+"], ["n/a", "n/a"], ["7"], ["8", ""]]
    path = _written(tmp_path / "x.tsv", rows)
    table = read_tsv(path, gaps=["n/a", "89+", ""])
    assert table["name"].isna().tolist() == [False, True, False, False]
    assert table["age"].isna().all()
    assert read_tsv(path, gaps=["89+"])["age"].fillna("gap").tolist() == ["gap", "n/a", "", ""]
    assert read_tsv(path)["age"].tolist() == ["89+", "n/a", "", ""]


def test_a_table_of_a_header_alone_has_no_row(tmp_path: Path) -> None:
    assert read_tsv(_written(tmp_path / "x.tsv", [["a", "b"]])).shape == (0, 2)


@pytest.mark.parametrize("lengths", [(3, 3), (2, 3)], ids=["all rows", "one row"])
def test_rows_longer_than_the_header_are_refused(tmp_path: Path, lengths: tuple[int, int]) -> None:
    rows = [["1"] * length for length in lengths]
    path = _written(tmp_path / "x.tsv", [["a", "b"], *rows])
    with pytest.raises(ValueError, match=r"cells as the header|Expected 2 fields"):
        read_tsv(path)


@pytest.mark.parametrize(
    ("name", "columns", "read"),
    [
        ("scans.tsv", "path age", lambda path: find_scans([path], Selection())),
        ("training_scans.tsv", "voxel_hash", lambda path: read_training_scans(path.parent)),
        ("predictions.tsv", "participant_id", read_predictions),
        ("labels.tsv", "index name", read_labels),
        ("run.tsv", "participant_id fold", read_run_table),
    ],
)
def test_no_reader_lets_cells_slip_below_their_neighbour_s_name(
    tmp_path: Path, name: str, columns: str, read: Callable[[Path], object]
) -> None:
    header = columns.split()
    path = _written(tmp_path / name, [header, ["1"] * (len(header) + 1)])
    with pytest.raises((UsageError, ScanError, ValueError), match="as many cells as the header"):
        read(path)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (["participant_id", "age", "sex", "age"], "'age' as columns 2 and 4"),
        (["a", "a", "a"], "'a' as columns 1, 2 and 3"),
        # The first that is twice, where several are.
        (["x", "b", "a", "a", "b"], "'b' as columns 2 and 5"),
    ],
)
@pytest.mark.parametrize("text", [None, ["age"]], ids=["text", "numbers"])
def test_a_name_that_two_columns_bear_is_refused_with_both_places(
    tmp_path: Path, header: list[str], found: str, text: list[str] | None
) -> None:
    path = _written(tmp_path / "x.tsv", [header, ["1"] * len(header)])
    with pytest.raises(ValueError, match="a name of its own; found") as caught:
        read_tsv(path, text=text)
    assert found in str(caught.value)


def test_a_column_age_that_stands_twice_gives_nobody_an_age(tmp_path: Path) -> None:
    rows = [["participant_id", "age", "age"], ["01", "30", "60"]]
    path = _written(tmp_path / "participants.tsv", rows)
    with pytest.raises(UsageError, match=r"participants\.tsv: .*'age' as columns 2 and 3"):
        read_participants(path)


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_names_that_differ_and_columns_without_one_are_read(tmp_path: Path, mark: str) -> None:
    """Spreadsheets leave empty columns; ``age.1`` is what pandas would call a second ``age``."""
    rows = [[f"{mark}age", "age.1", "Age", "", ""], ["1", "2", "3", "", ""]]
    table = read_tsv(_written(tmp_path / "x.tsv", rows))
    assert table.iloc[0, :3].to_dict() == {"age": "1", "age.1": "2", "Age": "3"}


def test_regions_called_by_numbers_keep_their_zeros(tmp_path: Path) -> None:
    rows = [["index", "name"], ["3", "007"], ["12", "010"]]
    labels = read_labels(_written(tmp_path / "x.tsv", rows))
    assert labels["name"].tolist() == ["007", "010"]
    assert labels["index"].tolist() == [3, 12]
