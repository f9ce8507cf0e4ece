"""Large tables as Parquet: equal to their TSV to the last digit, and only where they are large."""

import math
import random
import struct
import sys
from pathlib import Path

import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation import evaluate
from ermoe_ba.parquet import NUMBERS, PARQUET_ROWS, read_text_table, write_parquet_beside
from ermoe_ba.tables import (
    EVALUATED_COLUMNS,
    PREDICTION_COLUMNS,
    predictions_table,
    write_table,
)

duckdb = pytest.importorskip("duckdb")

# What could be taken for a quote, an escape, a number, a gap, a line or a column.
AWKWARD = ['a "quoted"\tword', "C:\\x\\", "", "NaN", "NULL", "007", "1e5", "'", "Zürich 頭", "#x"]


def _finite(random_: random.Random) -> float:
    """Return a double of random bits: of any size, and seldom a round number."""
    while True:
        (number,) = struct.unpack("d", struct.pack("Q", random_.getrandbits(64)))
        if math.isfinite(number):
            return float(number)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """As many rows as make a table large, in a folder whose name looks like a pattern."""
    bits = random.Random(0)
    path = tmp_path / "what [a] *?" / "predictions.tsv"
    rows = [
        {
            "participant_id": f"{n:05d}",
            "status": "ok",
            "predicted_age": _finite(bits),
            "predicted_age_lower": float(n),
            "chronological_age": None if n % 5 == 0 else n / 7,
            "message": AWKWARD[n % len(AWKWARD)],
        }
        for n in range(PARQUET_ROWS)
    ]
    write_table(path, predictions_table(rows))
    return path


def test_cells_and_order_are_those_of_the_tsv(table: Path) -> None:
    path = write_parquet_beside(table, PARQUET_ROWS)
    assert path == table.with_name("predictions.parquet")
    text = read_text_table(table)
    assert len(text) == PARQUET_ROWS
    assert read_text_table(path).equals(text)
    assert sorted(p.name for p in table.parent.iterdir()) == [path.name, table.name]


def test_numbers_are_doubles_and_gaps_are_null(table: Path) -> None:
    path = write_parquet_beside(table, PARQUET_ROWS)
    pattern = str(path).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
    found = duckdb.read_parquet(pattern)
    kinds = dict(zip(found.columns, map(str, found.types), strict=True))
    assert list(kinds) == list(PREDICTION_COLUMNS)
    for name, kind in kinds.items():
        assert kind == ("DOUBLE" if name in NUMBERS else "VARCHAR"), name
    # Every fifth age is unknown, and so is every session.
    known = found.aggregate("count(chronological_age), count(session_id)").fetchall()
    assert known == [(PARQUET_ROWS * 4 // 5, 0)]


def test_the_columns_of_numbers_are_those_that_the_legends_give_a_unit() -> None:
    legends = PREDICTION_COLUMNS | EVALUATED_COLUMNS
    assert {name for name, holds in legends.items() if holds.startswith(("years", "time"))} == (
        NUMBERS
    )


def test_the_same_table_has_the_same_bytes(table: Path) -> None:
    first = write_parquet_beside(table, PARQUET_ROWS).read_bytes()
    assert write_parquet_beside(table, PARQUET_ROWS).read_bytes() == first


def test_a_small_table_has_none_and_loses_that_of_a_larger_one(table: Path) -> None:
    left = write_parquet_beside(table, PARQUET_ROWS)
    assert left.is_file()
    assert write_parquet_beside(table, PARQUET_ROWS - 1) is None
    assert [p.name for p in table.parent.iterdir()] == ["predictions.tsv"]


def test_an_age_that_bids_hides_is_unknown(tmp_path: Path) -> None:
    table = tmp_path / "p.tsv"
    table.write_text("participant_id\tchronological_age\n01\t89+\n02\t50\n03\t\n", encoding="utf-8")
    found = read_text_table(write_parquet_beside(table, PARQUET_ROWS))
    assert found.to_numpy().tolist() == [["01", "n/a"], ["02", "50.0"], ["03", "n/a"]]


def test_an_evaluation_is_the_same_of_either(tmp_path: Path) -> None:
    table = tmp_path / "p.tsv"
    rows = [f"{n:02d}\t{n % 2}\t{20 + 2.5 * n}\t{22 + 2.3 * n + n % 3}" for n in range(24)]
    header = "participant_id\tfold\tchronological_age\tpredicted_age"
    table.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    parquet = write_parquet_beside(table, PARQUET_ROWS)
    assert parquet is not None
    assert evaluate(parquet).metrics == evaluate(table).metrics


def test_without_the_extra_the_tsv_is_all_and_it_is_said(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet_beside(table, PARQUET_ROWS)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError, match=r"pip install 'ermoe_ba\[parquet\]'"):
        read_text_table(path)
    with pytest.warns(UserWarning, match=r"pip install 'ermoe_ba\[parquet\]'"):
        assert write_parquet_beside(table, PARQUET_ROWS) is None
    assert not path.exists()


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("participant_id\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"p\.parquet: the predictions cannot be read"):
        evaluate(path)
    with pytest.raises(UsageError, match=r"none\.parquet"):
        evaluate(tmp_path / "none.parquet")
