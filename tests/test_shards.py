"""Shards of a cohort: nothing lost, nothing twice, in order; and the same digits after joining."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ermoe_ba.parquet import PARQUET_ROWS, read_text_table
from ermoe_ba.tables import predictions_table, read_predictions, write_table

SCRIPT = Path(__file__).parents[1] / "pipelines" / "shards.py"


@dataclass(frozen=True)
class Done:
    """What a call of the script gave."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(recipe_names: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> Run:
    main = recipe_names("shards")["main"]

    def shards(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return shards


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Seven scans: shards of 3 must hold 3, 3 and 1; one path is absolute already."""
    table = tmp_path / "lists" / "scans.tsv"
    table.parent.mkdir()
    rows = [f"P{n}\t../heads/{n}.nii.gz" for n in range(6)] + ["P6\t/elsewhere/6.nii.gz"]
    table.write_text("participant_id\tpath\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    return table


def test_shards_hold_each_scan_once_in_order(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("cut", scans, "--size", 3, "--out", tmp_path / "shards").stdout == "3\n"
    shards = [
        pd.read_csv(tmp_path / "shards" / f"{number:05d}" / "scans.tsv", sep="\t")
        for number in range(3)
    ]
    assert [len(shard) for shard in shards] == [3, 3, 1]
    together = pd.concat(shards)
    assert together["participant_id"].tolist() == [f"P{n}" for n in range(7)]
    paths = [Path(path) for path in together["path"]]
    assert all(path.is_absolute() for path in paths)
    assert [path.resolve() for path in paths[:6]] == [
        (tmp_path / "heads" / f"{n}.nii.gz").resolve() for n in range(6)
    ]
    assert paths[6] == Path("/elsewhere/6.nii.gz")


@pytest.mark.parametrize(("size", "shards"), [(1, 7), (6, 2), (7, 1), (8, 1)])
def test_the_number_of_shards_is_rounded_up(
    run: Run, scans: Path, tmp_path: Path, size: int, shards: int
) -> None:
    out = tmp_path / "shards"
    assert run("cut", scans, "--size", size, "--out", out).stdout == f"{shards}\n"
    assert [p.name for p in sorted(out.iterdir())] == [f"{n:05d}" for n in range(shards)]


def test_a_shard_that_cannot_be_is_refused(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("cut", scans, "--size", 0, "--out", tmp_path / "shards")
    assert done.returncode == 2
    assert "at least 1 scan; found 0" in done.stderr
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("content", ["", "file\na.nii\n", "path\n"])
def test_a_table_without_scans_is_refused(run: Run, tmp_path: Path, content: str) -> None:
    table = tmp_path / "scans.tsv"
    table.write_text(content, encoding="utf-8")
    done = run("cut", table, "--size", 5, "--out", tmp_path / "shards")
    assert done.returncode == 2
    assert str(table) in done.stderr


def finished(folder: Path, number: int, rows: list[dict[str, object]]) -> None:
    write_table(folder / f"{number:05d}" / "predictions.tsv", predictions_table(rows))


def test_joined_tables_hold_every_digit_and_count_failures(run: Run, tmp_path: Path) -> None:
    message = 'a "quoted" path\\tand more'
    first = [
        {"participant_id": "007", "status": "ok", "predicted_age": 0.1 + 0.2},
        {"participant_id": "NA", "status": "failed", "message": message},
    ]
    second = [{"participant_id": "1e5", "status": "ok", "predicted_age": 1 / 3}]
    finished(tmp_path, 0, first)
    finished(tmp_path, 1, second)
    # Left by an earlier plan with more shards: it is none of this one's.
    finished(tmp_path, 2, second)
    out = tmp_path / "predictions.tsv"
    done = run("join", tmp_path, "--count", 2, "--out", out)
    assert done.returncode == 0
    assert "3 scans of 2 shards, 1 failed" in done.stdout
    # What one run over all scans would have written, to the byte.
    expected = tmp_path / "expected.tsv"
    write_table(expected, predictions_table([*first, *second]))
    assert out.read_bytes() == expected.read_bytes()
    assert read_predictions(out)["message"].tolist() == ["n/a", message, "n/a"]


def test_a_shard_of_another_version_leaves_no_table(run: Run, tmp_path: Path) -> None:
    finished(tmp_path, 0, [{"participant_id": "a", "status": "ok"}])
    other = tmp_path / "00001" / "predictions.tsv"
    other.parent.mkdir()
    other.write_text("participant_id\tage\nb\t30\n", encoding="utf-8")
    out = tmp_path / "joined" / "predictions.tsv"
    done = run("join", tmp_path, "--count", 2, "--out", out)
    assert done.returncode == 2
    assert str(other) in done.stderr
    assert list(out.parent.iterdir()) == []


def test_a_missing_shard_is_named(run: Run, tmp_path: Path) -> None:
    finished(tmp_path, 0, [{"participant_id": "a", "status": "ok"}])
    done = run("join", tmp_path, "--count", 2, "--out", tmp_path / "predictions.tsv")
    assert done.returncode == 2
    assert "00001" in done.stderr
    assert not (tmp_path / "predictions.tsv").exists()


def test_many_rows_are_joined_as_parquet_too(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    size = PARQUET_ROWS // 2
    for number in range(2):
        rows = [{"participant_id": f"{number}-{n}", "status": "ok"} for n in range(size)]
        finished(tmp_path, number, rows)
    out = tmp_path / "predictions.tsv"
    assert run("join", tmp_path, "--count", 2, "--out", out).returncode == 0
    text = read_text_table(out)
    assert read_text_table(out.with_suffix(".parquet")).equals(text)
    assert text["participant_id"].tolist()[size - 1 : size + 1] == [f"0-{size - 1}", "1-0"]
    # A smaller cohort of the same name leaves nothing of the larger one.
    assert run("join", tmp_path, "--count", 1, "--out", out).returncode == 0
    assert not out.with_suffix(".parquet").exists()


@pytest.mark.parametrize("ends", [0, 1, 2])
def test_a_task_of_an_array_predicts_its_shard(
    run: Run, scans: Path, tmp_path: Path, ends: int
) -> None:
    """A stand-in for the program tells what it was called with; scans that fail fail no task."""
    results = tmp_path / "results of all"
    run("cut", scans, "--size", 3, "--out", results / "shards")
    program = tmp_path / "bin" / "ermoe-ba"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\nexit {ends}\n', encoding="utf-8"
    )
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", SCRIPT.with_name("sbatch_predict.sh"), results, "--no-maps"],
        env={
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_CPUS_PER_TASK": "4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (ends < 2), done.stderr
    shard = results / "shards" / "00002"
    told = ["4", "predict", str(shard / "scans.tsv"), "--out", str(shard), "--resume", "--no-maps"]
    assert done.stdout.splitlines() == told
