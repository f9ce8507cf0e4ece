"""``ermoe-ba maps``: files that add up, of one call alone."""

import json
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from planted_cohort import random_weights, random_years, write_maps_of

from ermoe_ba.assets import template
from ermoe_ba.atlas import load_atlas
from ermoe_ba.cli.main import main
from ermoe_ba.cohort import read_participants
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.space import MODEL_GRID


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["participant_id\tage\tsite"]
    for number in range(8):
        write_maps_of(tmp_path / "run", f"sub-{number}", random_weights(rng), random_years(rng))
        rows.append(f"sub-{number}\t{30 + 5 * number}\t{'xy'[number % 2]}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def _maps(folder: Path, *more: str) -> int:
    quick = ("--permutations", "19", "--surrogates", "19")
    return main(["maps", str(folder / "run"), "--out", str(folder / "maps"), *quick, *more])


def test_the_command_writes_maps_that_add_up(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(predictions / "participants.tsv")
    assert _maps(predictions, "--participants", table, "--groups", "site") == 0
    out = predictions / "maps"
    told, warned = capsys.readouterr()
    assert "8 participants, 8 scans." in told
    assert warned.count("note") == 1
    assert "19 surrogates are too few for" in warned
    effects = ["age", "gap", "group-y"]
    assert {path.name for path in out.iterdir()} == {
        "maps.json",
        "maps.html",
        "experts.tsv",
        "regions.tsv",
        "effects.tsv",
        "participants.tsv",
        "group_desc-atlas_dseg.nii.gz",
        "group_desc-experts_probseg.nii.gz",
        "group_desc-experts_dseg.nii.gz",
        "group_desc-experts_dseg.tsv",
        "group_desc-experts_stat-sd_map.nii.gz",
        "group_desc-contribution_map.nii.gz",
        "group_desc-contribution_stat-sd_map.nii.gz",
        *(
            f"group_effect-{e}_stat-{s}_map.nii.gz"
            for e in effects
            for s in ("effect", "t", "logp")
        ),
    }
    assert all(str(path) in told for path in out.iterdir())
    content = json.loads((out / "maps.json").read_text(encoding="utf-8"))
    ages = [
        json.loads(path.read_text(encoding="utf-8"))["predicted_age"]
        for path in (predictions / "run").glob("*.json")
    ]
    years = nib.load(out / "group_desc-contribution_map.nii.gz").get_fdata().sum()
    assert years + content["baseline_years"] == pytest.approx(np.mean(ages), abs=1e-4)
    assert content["mean_predicted_age"] == pytest.approx(np.mean(ages))
    weights = nib.load(out / "group_desc-experts_probseg.nii.gz").get_fdata()
    brain = template("desc-brain_mask").data > 0
    np.testing.assert_allclose(weights.sum(axis=-1), brain, atol=1e-5)
    winners = np.asanyarray(nib.load(out / "group_desc-experts_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(winners, np.where(brain, weights.argmax(axis=-1) + 1, 0))
    slope = nib.load(out / "group_effect-age_stat-effect_map.nii.gz").get_fdata().sum()
    known = pd.read_csv(out / "participants.tsv", sep="\t")
    line = np.polyfit(known["chronological_age"], known["predicted_age"], 1)
    assert slope == pytest.approx(line[0], abs=1e-4)
    assert content["out_of_fold"] is False
    # Routing, means and slopes of three experts in each region; nobody's 19 surrogates reach far.
    assert content["region_tests"] == 3 * 3 * len(load_atlas().labels)
    assert content["smallest_q"] == 1.0
    assert content["effect_channels"] == ["contribution", "csf", "free_1", "free_2"]
    t_map = nib.load(out / "group_effect-age_stat-t_map.nii.gz")
    assert t_map.shape == (*MODEL_GRID.shape, 4)
    assert content["atlas_sampling"] == load_atlas().sampling
    regions = pd.read_csv(out / "regions.tsv", sep="\t")
    assert len(regions) == 3 * (len(load_atlas().labels) + 1)
    people = pd.read_csv(out / "participants.tsv", sep="\t")
    expected = read_participants(Path(table)).table["age"]
    assert people["chronological_age"].tolist() == expected.tolist()


def test_the_same_seed_gives_the_same_bytes_and_nothing_is_replaced_unasked(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _maps(predictions, "--atlas", "ICBMTissue") == 0
    before = {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()}
    (predictions / "maps" / "maps.html").unlink()
    assert main(["report", str(predictions / "maps")]) == 0
    assert {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()} == before
    assert _maps(predictions, "--atlas", "ICBMTissue") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert _maps(predictions, "--atlas", "ICBMTissue", "--overwrite") == 0
    assert {p.name: p.read_bytes() for p in (predictions / "maps").iterdir()} == before


def test_whoever_the_table_lacks_is_left_out_of_comparisons_and_told(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = predictions / "participants.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    # Without sub-3; and with a column that results have a name for.
    columns = ["scans", *("9" for _ in rows[1:])]
    wider = [f"{row}\t{cell}" for row, cell in zip(rows, columns, strict=True)]
    table.write_text("\n".join(wider[:4] + wider[5:]) + "\n", encoding="utf-8")
    asked = ("--participants", str(table), "--atlas", "ICBMTissue", "--groups")
    assert _maps(predictions, *asked, "scans") == 2
    assert "a name of the results' own" in capsys.readouterr().err
    assert _maps(predictions, *asked, "site") == 0
    said = capsys.readouterr().err
    # Beside what is said of the surrogates.
    assert said.count("note") == 3
    assert "found none of 1 (3)" in said
    assert "a name of the results' own; found scans, which were left out" in said
    content = json.loads((predictions / "maps" / "maps.json").read_text(encoding="utf-8"))
    assert (content["participants"], content["scans"]) == (8, 8)
    assert {e["participants"] for e in content["effects"].values()} == {7}


def test_a_call_leaves_nothing_of_an_earlier_one(predictions: Path) -> None:
    table = str(predictions / "participants.tsv")
    quick = ("--atlas", "ICBMTissue")
    assert _maps(predictions, *quick, "--participants", table, "--groups", "site") == 0
    out = predictions / "maps"
    (out / "group_notes.txt").write_text("mine", encoding="utf-8")
    # A call that is refused touches nothing.
    before = {path.name for path in out.iterdir()}
    asked = ("--overwrite", "--participants", table, "--groups", "no such")
    assert _maps(predictions, *quick, *asked) == 2
    assert {path.name for path in out.iterdir()} == before
    # All are 40 years old now, and of no site: neither effects nor their table are left.
    assert _maps(predictions, *quick, "--overwrite") == 0
    after = {path.name for path in out.iterdir()}
    gone = {name for name in before if name.startswith("group_effect-")} | {"effects.tsv"}
    assert len(gone) == 10
    assert after == before - gone


def test_each_of_three_groups_of_like_names_is_written(predictions: Path) -> None:
    table = predictions / "participants.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(rows[1:]):
        rows[1 + number] = f"{row.rsplit(chr(9), 1)[0]}\t{('A+', 'A-', 'A?')[number % 3]}"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = ("--participants", str(table), "--groups", "site", "--atlas", "ICBMTissue")
    assert _maps(predictions, *asked) == 0
    out = predictions / "maps"
    content = json.loads((out / "maps.json").read_text(encoding="utf-8"))
    files = [e["files"] for name, e in content["effects"].items() if name.startswith("group-")]
    maps = [nib.load(out / name.replace("*", "effect")).get_fdata() for name in files]
    assert len(maps) == 3
    assert not any(np.array_equal(a, b) for a, b in combinations(maps, 2))


def test_groups_need_a_table(predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _maps(predictions, "--groups", "site") == 2
    assert "--participants" in capsys.readouterr().err


def test_what_experts_are_worth_is_asked_of_the_model_that_predicted(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's predictions are of m-1: nobody ships it, and the shipped one did not make it."""
    assert _maps(predictions) == 0
    assert "its card does not" in (predictions / "maps" / "maps.html").read_text("utf-8")
    capsys.readouterr()
    assert _maps(predictions, "--model", DEFAULT_MODEL, "--overwrite") == 2
    said = capsys.readouterr().err
    assert "must be the model that predicted, m-1; found ixi-hh-" in said
    # Refused before anything of the earlier maps was touched.
    assert (predictions / "maps" / "maps.html").is_file()
