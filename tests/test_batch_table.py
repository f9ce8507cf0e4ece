"""The table of a batch: any name in one line, large ones in linear time, and as Parquet too."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from quick_batch import Run, WriteHead, predict, stand_ins

from ermoe_ba.cli.predict import write_rows
from ermoe_ba.parquet import read_text_table
from ermoe_ba.workers import Outcome

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "stand_ins"]


@pytest.mark.usefixtures("stand_ins")
def test_names_that_no_table_could_hold_are_told_in_print(
    tmp_path: Path, write_head: WriteHead, predict: Callable[..., Run]
) -> None:
    scan = write_head("odd.nii.gz").rename(tmp_path / "a\nb\tc.nii.gz")
    bytes_name = tmp_path / b"\xff.nii.gz".decode("utf-8", "surrogateescape")
    shutil.copy(scan, bytes_name)
    run = predict(scan, bytes_name, tmp_path / "no\nfile.nii", "--no-maps")
    assert run.table["status"].tolist() == ["ok", "ok", "failed"]
    assert run.table["input"].tolist() == [
        f"{tmp_path}/{name}" for name in ("a\\nb\\tc.nii.gz", "\\udcff.nii.gz", "no\\nfile.nii")
    ]
    assert len((run.out / "predictions.tsv").read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.usefixtures("stand_ins")
def test_the_table_of_a_large_batch_is_written_in_linear_time(
    tmp_path: Path, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any moment at most one finished scan in a hundred is missing, and no row is wasted."""
    sizes: list[int] = []

    def counted(table: Path, outcomes: Sequence[Outcome]) -> None:
        sizes.append(len(outcomes))
        write_rows(table, outcomes)

    monkeypatch.setattr("ermoe_ba.cli.predict.write_rows", counted)
    scans = [tmp_path / f"missing-{n}.nii" for n in range(250)]
    run = predict(*scans)
    assert run.code == 1
    assert [Path(row).name for row in run.table["input"]] == [path.name for path in scans]
    assert sizes[:102] == [0, *range(1, 102)]
    # From 101 on, each table is the first that is longer by a hundredth.
    steps = list(itertools.pairwise(sizes[101:-1]))
    assert steps
    assert all(new - 1 < 1.01 * old <= new for old, new in steps)
    assert sizes[-1] == 250


@pytest.mark.usefixtures("stand_ins")
def test_a_large_batch_has_its_table_as_parquet_too(
    tmp_path: Path, predict: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.setattr("ermoe_ba.parquet.PARQUET_ROWS", 2)
    parquet = tmp_path / "out" / "predictions.parquet"
    run = predict(tmp_path / "a.nii", tmp_path / "b.nii")
    assert read_text_table(parquet).equals(read_text_table(run.out / "predictions.tsv"))
    assert str(parquet) in run.stdout
    # One scan alone is no large batch, and the former one's table would tell of others.
    assert str(parquet) not in predict(tmp_path / "a.nii", "--overwrite").stdout
    assert not parquet.exists()
