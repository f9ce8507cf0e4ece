"""A card comes back as it was written, what is none is refused; the shipped one tells the truth."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import (
    DEFAULT_MODEL,
    WEIGHTS,
    ModelCard,
    model_folder,
    read_card,
    save_card,
)
from ermoe_ba.training.run_folder import read_run_table
from ermoe_ba.widening import read_widening

FOLDER = WEIGHTS / DEFAULT_MODEL
TEXT = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8").replace("−", "-")
# In one line: sentences are wrapped where they may.
WORDS = " ".join(TEXT.split())
# Half a unit of the last of so many decimals, and what the numbers' storage adds.
ONE, TWO, THREE = 0.05 + 1e-9, 0.005 + 1e-9, 0.0005 + 1e-9


def test_a_card_comes_back_equal(tmp_path: Path, card: ModelCard) -> None:
    save_card(tmp_path, card)
    assert read_card(tmp_path) == card


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name"', '"nmae"'),
        ('"rank": 5', '"rank": 12'),
        ('"rank": 5', '"rang": 5'),
        ('"coverage": 0.9,', ""),
        ('"n4_tolerance"', '"n5_tolerance"'),
        ("{", ""),
    ],
)
def test_a_card_of_another_version_is_refused(
    tmp_path: Path, card: ModelCard, old: str, new: str
) -> None:
    save_card(tmp_path, card)
    path = tmp_path / "model.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match="not a model of this version") as caught:
        read_card(tmp_path)
    assert str(path) in str(caught.value)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"no model 'no-such-model'.*model\.json"):
        model_folder("no-such-model")


def test_a_run_that_is_not_finished_has_no_card_yet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.json: a model must have its card.*all folds"):
        read_card(tmp_path)


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """The shipped out-of-fold ages, by participant, with the decade of each."""
    table = read_run_table(FOLDER / "out_of_fold_predictions.tsv").set_index("participant_id")
    return table.assign(decade=(table["chronological_age"] // 10 * 10).astype(int))


def _cells(section: str, first: str) -> list[str]:
    """Return the cells behind the first one of a row of a section's tables."""
    (part,) = [part for part in TEXT.split("\n## ") if part.startswith(section)]
    (row,) = [line for line in part.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.split("|")[2:-1]]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+(?:\.\d+)?", text)]


def _said(pattern: str) -> list[float]:
    """Return the numbers of a sentence of the card, which stands in it once."""
    (found,) = re.finditer(pattern, WORDS)
    return [float(number) for number in found.groups()]


def test_the_shipped_tables_tell_of_the_same_people_and_ages(people: pd.DataFrame) -> None:
    card = read_card(FOLDER)
    trained = read_run_table(FOLDER / "training_scans.tsv").set_index("participant_id")
    assert people.index.is_unique
    assert trained.index.is_unique
    assert trained["voxel_hash"].is_unique
    assert sorted(trained.index) == sorted(people.index)
    # Everybody was seen by every member.
    assert set(trained["fold"]) == {"n/a"}
    ages, predicted = people["chronological_age"], people["predicted_age"]
    # The card file rounds its predictions to three decimals.
    np.testing.assert_allclose(
        sorted(zip(card.ages, card.predictions, strict=True)),
        sorted(zip(ages, predicted, strict=True)),
        rtol=0,
        atol=THREE,
    )
    np.testing.assert_allclose(people["brain_age_gap"], predicted - ages, atol=1e-9)
    members = [path.name.split("_")[0] for path in FOLDER.glob("fold-*_start-*.safetensors")]
    assert Counter(members) == {f"fold-all-{stem}": 5 for stem in range(5)}
    assert _said(r"; (\d+) members \(five stems with five starts each\)") == [len(members)]
    assert _said(r"members on each, trained on all (\d+) people") == [len(people)]
    # Each fold of 28 is tested by what the other four taught.
    (taught,) = _said(r"five members on the other four \((\d+) people\)")
    assert set(people["fold"].value_counts()) == {len(people) - taught}


def test_the_card_tells_whom_the_model_learnt_from(people: pd.DataFrame) -> None:
    """Whose sex is which no shipped file tells: women and men must be all, in number and mean."""
    section, ages = "Training data", people["chronological_age"]
    assert _said(r"(\d+) healthy adults of the IXI data set") == [len(people)]
    told = _said(r"Ages ([\d.]+) to ([\d.]+) years, mean ([\d.]+), SD ([\d.]+);")
    assert told == pytest.approx([ages.min(), ages.max(), ages.mean(), ages.std()], abs=ONE)
    sums = np.zeros(3)
    for decade, theirs in people.groupby("decade"):
        *counts, bar = _cells(section, f"{decade} to {decade + 9}")
        women, men, everybody = map(int, counts)
        assert women + men == everybody == len(theirs)
        assert bar == f"`{'#' * everybody}`"
        sums += (women, men, everybody)
    assert [*map(int, _cells(section, "all")[:3])] == sums.tolist()
    assert sums[2] == len(people)
    by_sex = _said(r"; women ([\d.]+) \([\d.]+\), men ([\d.]+) \([\d.]+\)\.")
    assert np.average(by_sex, weights=sums[:2]) == pytest.approx(ages.mean(), abs=ONE)


def test_the_card_tells_the_errors_of_the_shipped_ages(people: pd.DataFrame) -> None:
    section, ages = "Figures", people["chronological_age"]
    gap = people["predicted_age"] - ages
    mae, *_, always_median = _numbers(_cells(section, "MAE")[0])
    assert mae == pytest.approx(gap.abs().mean(), abs=TWO)
    assert always_median == pytest.approx((ages - ages.median()).abs().mean(), abs=TWO)
    by_fold = gap.abs().groupby(people["fold"]).mean().tolist()
    assert _numbers(_cells(section, "MAE by fold")[0]) == pytest.approx(by_fold, abs=ONE)
    rmse = np.sqrt(gap.pow(2).mean())
    assert _numbers(_cells(section, "RMSE")[0])[0] == pytest.approx(rmse, abs=TWO)
    correlation, explained = _cells(section, "*r*; R²")[0].split(";")
    assert _numbers(correlation)[0] == pytest.approx(ages.corr(people["predicted_age"]), abs=THREE)
    r2 = 1 - gap.pow(2).sum() / (ages - ages.mean()).pow(2).sum()
    assert _numbers(explained)[0] == pytest.approx(r2, abs=THREE)
    assert _numbers(_cells(section, "mean gap")[0])[0] == pytest.approx(gap.mean(), abs=TWO)
    slope = _numbers(_cells(section, "slope of the gap on age")[0])[0]
    assert slope == pytest.approx(gap.cov(ages) / ages.var(), abs=THREE)
    metrics = read_card(FOLDER).metrics
    assert metrics["mae"] == pytest.approx(gap.abs().mean())
    assert metrics["median_mae"] == pytest.approx((ages - ages.median()).abs().mean())


def test_the_card_tells_the_errors_of_each_group(people: pd.DataFrame) -> None:
    """Women's and men's are, weighted by their number, everybody's."""
    section, gap = "Figures", people["brain_age_gap"]
    for decade, theirs in gap.groupby(people["decade"]):
        count, mae, mean = (
            _numbers(cell)[0] for cell in _cells(section, f"{decade} to {decade + 9}")
        )
        assert count == len(theirs)
        assert (mae, mean) == pytest.approx((theirs.abs().mean(), theirs.mean()), abs=ONE)
    by_sex = np.array(
        [[_numbers(cell)[0] for cell in _cells(section, sex)] for sex in ("women", "men")]
    )
    assert by_sex[:, 0].tolist() == [*map(int, _cells("Training data", "all")[:2])]
    both = np.average(by_sex[:, 1:], axis=0, weights=by_sex[:, 0])
    assert both == pytest.approx([gap.abs().mean(), gap.mean()], abs=ONE)


def test_the_card_tells_the_model_and_its_intervals() -> None:
    card, widening = read_card(FOLDER), read_widening(FOLDER)
    assert widening is not None
    assert f"model_id `{widening.model_id}`, preprocessing_id `{card.preprocessing_id}`." in WORDS
    assert f"data hash `{card.provenance['data_hash']}`" in WORDS
    assert card.coverage == 0.9
    (half,) = _said(r"half width of the 90 % interval [^|]*\| ([\d.]+) years;")
    assert half == pytest.approx(card.half_width, abs=ONE)
    rule = _said(r"([\d.]+) years × \(1 \+ ([\d.]+) × max\(0, distance / ([\d.]+) - 1\)\)")
    assert rule[0] == half
    assert rule[1:] == pytest.approx([widening.slope, widening.start], abs=THREE)
    (width,) = _said(r"\*\*Intervals\*\* are ([\d.]+) years wide or wider")
    # Twice the half-width as the card rounds it.
    assert width == pytest.approx(2 * half)


def test_the_card_tells_what_was_recorded_of_the_sample_head() -> None:
    recorded = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
    age, interval, widening = (
        recorded[what]["sub-colin27"] for what in ("ages", "intervals", "interval_widenings")
    )
    told = _said(
        r"\| Colin27, [^|]*\| ([\d.]+) years \| ([\d.]+) to ([\d.]+) \(([\d.]+) times as wide\)"
    )
    assert told[:3] == pytest.approx([age, *interval], abs=ONE)
    assert told[3] == pytest.approx(widening, abs=TWO)


def test_the_card_tells_what_the_age_rests_on() -> None:
    metrics = read_card(FOLDER).metrics
    told = re.search(r"What the age rests on .*?: (.*?) without the grey matter", WORDS)
    assert told is not None
    measured = [
        metrics["probe_mae"],
        *metrics["probe_mae_zeroed"],
        metrics["probe_mae_random_routing"],
        metrics["probe_mae_other_subject_routing"],
        *metrics["probe_mae_without_expert"],
    ]
    assert _numbers(told[1]) == pytest.approx(measured, abs=ONE)
