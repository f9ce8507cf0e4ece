"""The command line as a BIDS App: participants one by one, then the group."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest
from quick_batch import Run, WriteHead, predict, seen, stand_ins

from ermoe_ba.cli.main import main
from ermoe_ba.tables import PREDICTION_COLUMNS

pytestmark = pytest.mark.usefixtures("one_torch_thread", "atlases_in_place")
# Fixtures, which pytest finds by name.
__all__ = ["predict", "seen", "stand_ins"]


@pytest.fixture
def dataset(tmp_path: Path, write_head: WriteHead) -> Path:
    """Two participants; the first has two sessions, one of them with two runs."""
    pytest.importorskip("bids")
    root = tmp_path / "dataset"
    for number, name in enumerate(
        ("sub-1_ses-a_T1w", "sub-1_ses-b_run-1_T1w", "sub-1_ses-b_run-2_T1w", "sub-2_T1w")
    ):
        folder = root.joinpath(*(p for p in name.split("_") if p[:4] in ("sub-", "ses-")), "anat")
        folder.mkdir(parents=True, exist_ok=True)
        head = nib.load(write_head()).get_fdata() + number
        write_head(f"{name}.nii.gz", data=head).rename(folder / f"{name}.nii.gz")
    (root / "dataset_description.json").write_text(
        '{"Name": "Heads", "BIDSVersion": "1.10.0"}', encoding="utf-8"
    )
    (root / "participants.tsv").write_text(
        "participant_id\tage\nsub-1\t40\nsub-2\tn/a\n", encoding="utf-8"
    )
    return root


def _app(*arguments: str | Path) -> int:
    return main([*map(str, arguments)])


def test_participants_one_by_one_and_then_the_group(
    tmp_path: Path, dataset: Path, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _app(dataset, out, "group") == 2
    assert "Run participant first" in capsys.readouterr().err
    assert _app(dataset, out, "participant", "--participant-label", "1", "--no-report") == 0
    app_told = capsys.readouterr().err
    assert not (out / "predictions.tsv").exists()
    assert _app(dataset, out, "group") == 1
    assert f"no results yet: {out / 'sub-2' / 'sub-2_predictions.tsv'}" in capsys.readouterr().err
    assert _app(dataset, out, "participant", "--participant_label", "sub-2", "--no-report") == 0
    assert len(seen) == 4
    # Said of participant 1 alone, in its own job, once.
    assert app_told.count("1 participants have several sessions but one age (1)") == 1
    assert "one age" not in capsys.readouterr().err
    assert _app(dataset, out, "group") == 0
    table = pd.read_csv(out / "predictions.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert table.columns.tolist() == list(PREDICTION_COLUMNS)
    people = table[["participant_id", "session_id", "chronological_age"]].to_numpy().tolist()
    assert people == [
        ["1", "a", "40.0"],
        ["1", "b", "40.0"],
        ["1", "b", "40.0"],
        ["2", "n/a", "n/a"],
    ]
    assert table["predicted_age"].nunique() == 4
    for row in table.to_dict("records"):
        name = Path(row["input"]).name.removesuffix("_T1w.nii.gz")
        (found,) = out.rglob(f"{name}_prediction.json")
        content = json.loads(found.read_text(encoding="utf-8"))
        assert repr(content["predicted_age"]) == row["predicted_age"]
        # The table names the file, the result its place in the data set.
        assert row["input"] == str(dataset / content["input"])
        assert found.parent.name == "anat"
        assert found.parent.parent.name == ("ses-" + row["session_id"]).replace("ses-n/a", "sub-2")


@pytest.mark.usefixtures("stand_ins")
def test_an_age_at_a_session_counts_before_any_participants_table(
    dataset: Path, predict: Callable[..., Run]
) -> None:
    """One age a person is that of one of their sessions: at the others, the gap would be wrong."""
    sessions = "session_id\tage\nses-a\t41.5\nses-b\tn/a\n"
    (dataset / "sub-1" / "sub-1_sessions.tsv").write_text(sessions, encoding="utf-8")
    people = dataset.parent / "people.tsv"
    people.write_text("participant_id\tage\nsub-1\t50\nsub-2\t60\n", encoding="utf-8")
    run = predict(dataset, "--no-maps")
    assert run.table["chronological_age"].fillna(-1).tolist() == [41.5, 40.0, 40.0, -1]
    assert run.stderr.count("1 participants have several sessions but one age (1)") == 1
    # Maps of the cohort must know which age no table may replace.
    own = {
        p.name: json.loads(p.read_text("utf-8"))["age_at_session"] for p in run.out.glob("*.json")
    }
    assert [name for name, at_session in own.items() if at_session] == [
        "sub-1_ses-a_prediction.json"
    ]
    assert len(own) == 4
    # What earlier versions wrote does not say so, and is done again.
    stated = run.out / "sub-1_ses-a_prediction.json"
    content = json.loads(stated.read_text(encoding="utf-8"))
    del content["age_at_session"]
    stated.write_text(json.dumps(content), encoding="utf-8")
    predict(dataset, "--no-maps", "--resume")
    assert json.loads(stated.read_text(encoding="utf-8"))["age_at_session"] is True
    told = predict(dataset, "--no-maps", "--overwrite", "--participants", people).table
    assert told["chronological_age"].tolist() == [41.5, 50.0, 50.0, 60.0]
    people.write_text("participant_id\tage\nsub-2\t60\n", encoding="utf-8")
    told = predict(dataset, "--no-maps", "--overwrite", "--participants", people).table
    assert told["status"].tolist() == ["ok"] * 4
    assert told["chronological_age"].fillna(-1).tolist() == [41.5, -1, -1, 60.0]


def test_the_app_goes_on_by_itself(tmp_path: Path, dataset: Path, seen: list[str]) -> None:
    out = tmp_path / "out"
    assert _app(dataset, out, "participant", "--session-label", "b", "--no-maps") == 0
    assert seen == ["sub-1_ses-b_run-1_T1w.nii.gz", "sub-1_ses-b_run-2_T1w.nii.gz"]
    seen.clear()
    assert _app(dataset, out, "participant", "--no-maps") == 0
    assert seen == ["sub-1_ses-a_T1w.nii.gz", "sub-2_T1w.nii.gz"]
    seen.clear()
    assert _app(dataset, out, "participant", "--no-maps", "--overwrite") == 0
    assert len(seen) == 4


def test_one_scan_a_session_is_told(
    tmp_path: Path, dataset: Path, seen: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--no-maps", "--one-per-session")
    assert _app(dataset, tmp_path / "out", "participant", *arguments) == 0
    assert "sub-1_ses-b_run-1_T1w.nii.gz" not in seen
    assert len(seen) == 3
    assert (
        "sub-1_ses-b_run-2_T1w.nii.gz stands for its session; left out: "
        "sub-1_ses-b_run-1_T1w.nii.gz"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["x", "y", "participant"], ["x", "y", "group"]])
def test_a_folder_that_is_no_data_set_is_a_usage_error(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "found no dataset_description.json" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["participants", "session"])
def test_another_level_is_a_usage_error(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x", "y", level]) == 2
    assert "usage: ermoe-ba" in capsys.readouterr().err
