"""Fine-tuning: a known shift is found, written into the weights, and tested by the unknowing."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from off_site import IDS, Site, site

from ermoe_ba.checkpoint import load_member
from ermoe_ba.cli.main import main
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model_card import read_card, save_card
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.fine_tune import TuningConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["site"]


def test_a_site_that_is_off_by_six_years_is_found_and_mended(
    site: Site, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Everybody is 6 years older than they look, give or take one."""
    ages = {i: site.base[i] + 6 + (-1) ** int(i) for i in IDS}
    metrics = site.tuning(ages).run()
    out = site.folder / "tuned"
    assert metrics["untuned"]["mae"] == pytest.approx(6.0, abs=0.02)
    # Half of the people are off by one either way; fitted on eight, the offset is off a little.
    assert 0.9 < metrics["tuned"]["mae"] < 1.3
    assert metrics["way"] == "offset"
    assert len(metrics["way_by_fold"]) == 3
    table = pd.read_csv(out / "predictions.tsv", sep="\t", dtype={"participant_id": str})
    table = table.set_index("participant_id")
    np.testing.assert_allclose(
        table["predicted_age_untuned"], [site.base[i] for i in table.index], atol=0.02
    )
    gap = (table["predicted_age"] - table["chronological_age"]).abs()
    assert gap.mean() == pytest.approx(metrics["tuned"]["mae"])
    # Out of fold: what is added to a fold's people is the mean residual of all others.
    assert "offset" in metrics["way_by_fold"]
    for fold, rows in table.groupby("fold"):
        if metrics["way_by_fold"][fold] != "offset":
            continue
        others = table[table["fold"] != fold]
        wanted = (others["chronological_age"] - others["predicted_age_untuned"]).mean()
        added = rows["predicted_age"] - rows["predicted_age_untuned"]
        np.testing.assert_allclose(added, wanted)
    # The model on disk is the one tuned on everybody: 6 years more.
    for fold in (0, 1):
        name = f"fold-{fold}_start-0.safetensors"
        before = load_member(site.model / name, small_config, small_tokens)
        after = load_member(out / name, small_config, small_tokens)
        assert float(after.baseline - before.baseline) == pytest.approx(6.0, abs=0.02)
    card = read_card(out)
    assert card.name == "small-tuned"
    # ceil(13 * .5) = 7th smallest of twelve.
    assert card.half_width == pytest.approx(sorted(gap)[6])
    assert card.provenance["tuned_by"] == "offset"
    kept = pd.read_csv(out / "training_scans.tsv", sep="\t", dtype=str)
    # Before those of the site stands whom the base, which does not tell, had learnt from.
    assert kept["participant_id"].isna().tolist() == [True] + 12 * [False]
    assert kept["participant_id"].tolist()[1:] == IDS
    assert kept["fold"].isna().all()


def test_the_tuned_interval_counts_people_and_not_their_scans(site: Site) -> None:
    """One person with seven scans and five with one: of (6 + 1) * .5 people, 3.5."""
    tuning = site.tuning({i: site.base[i] + 6 + int(i) for i in IDS})
    own = set(IDS[7:])
    scans = tuple(
        scan if scan.name in own else replace(scan, participant_id=IDS[0])
        for scan in tuning.study.scans
    )
    tuning.study = replace(tuning.study, scans=scans)
    tuning.run()
    out = site.folder / "tuned"
    gaps = pd.read_csv(out / "predictions.tsv", sep="\t", dtype={"scan": str})
    gaps = gaps.set_index("scan")["brain_age_gap"].abs().sort_values()
    reached, wanted = 0, 0.0
    for name, gap in gaps.items():
        # In fourteenths of a person.
        reached += 14 if name in own else 2
        if reached >= 49:
            wanted = gap
            break
    width = read_card(out).half_width
    assert width == pytest.approx(wanted)
    assert width != pytest.approx(gaps.iloc[6])


def test_the_way_is_that_which_suits_people_and_not_scans(site: Site) -> None:
    """Seven scans of one person are well; the five other people look 6 years too young.

    Three folds of two people: with that person among the four who teach, an offset is 6 x 3 / 4,
    and errs by 1.5 on four people; without, it errs by 6 on that one: 12 / 6 against 30 / 6 of
    none. Counting scans, it would be 6 x 3 / 10 and err by (4 x 4.2 + 7 x 6) / 12 against 30 / 12.
    """
    tuning = site.tuning({i: site.base[i] + (0 if i in IDS[:7] else 6) for i in IDS})
    scans = tuple(
        replace(scan, participant_id=IDS[0]) if scan.name in IDS[:7] else scan
        for scan in tuning.study.scans
    )
    tuning.study = replace(tuning.study, scans=scans)
    metrics = tuning.run()
    assert metrics["untuned"]["mae"] == pytest.approx(5, abs=0.02)
    assert metrics["way"] != "none"


def test_a_site_too_small_for_the_model_s_coverage_is_refused(site: Site) -> None:
    """Nineteen in twenty need nineteen people."""
    save_card(site.model, replace(read_card(site.model), coverage=0.95))
    tuning = site.tuning({i: 50.0 + int(i) for i in IDS})
    # Before any scan is read.
    for path in site.folder.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(UsageError, match="at least 19 participants of known age; found 12"):
        tuning.run()


def test_a_site_that_fits_is_left_alone(site: Site) -> None:
    """Residuals of plus and minus one, evenly: any offset learnt on others makes it worse."""
    ages = {i: site.base[i] + (-1) ** int(i) for i in IDS}
    metrics = site.tuning(ages).run()
    assert metrics["untuned"]["mae"] == pytest.approx(1.0, abs=0.02)
    assert metrics["way"] == "none"
    assert metrics["tuned"]["mae"] < 1.3


def test_a_scan_s_own_age_does_not_reach_its_tuned_age(site: Site) -> None:
    """A planted leak: the oldest is said to be 30 years older, which leaves the folds as they are.

    Nobody of that fold may move, and everybody else does.
    """
    ages = {i: site.base[i] + 6 + (-1) ** int(i) for i in IDS}
    oldest = max(ages, key=lambda i: ages[i])
    tables = []
    for name, told in (("plain", ages), ("leak", ages | {oldest: ages[oldest] + 30})):
        site.tuning(told).run()
        (site.folder / "tuned").rename(site.folder / name)
        table = pd.read_csv(site.folder / name / "predictions.tsv", sep="\t", dtype={0: str})
        tables.append(table.set_index("participant_id"))
    plain, leak = tables
    assert plain["fold"].equals(leak["fold"])
    same = plain["fold"] == plain.loc[oldest, "fold"]
    assert plain["predicted_age"][same].equals(leak["predicted_age"][same])
    assert (plain["predicted_age"][~same] != leak["predicted_age"][~same]).all()


def test_too_few_people_and_a_folder_in_use_are_refused(site: Site) -> None:
    ages = {i: 40.0 + int(i) for i in IDS}
    config = replace(TuningConfig(), num_folds=3)
    with pytest.raises(UsageError, match="at least 30 participants of known age; found 12"):
        site.tuning(ages, config=config).run()
    site.tuning(ages).run()
    with pytest.raises(UsageError, match="holds a model"):
        site.tuning(ages)


def test_the_command_shows_both_models_side_by_side(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TuningConfig(num_folds=3, min_participants=6)
    monkeypatch.setattr("ermoe_ba.training.fine_tune.TuningConfig", lambda: config)
    site.tuning({i: site.base[i] + 6 + (-1) ** int(i) for i in IDS})
    out = site.folder / "tuned"
    command = ["fine-tune", "--model", str(site.model), "--t1w", "{participant_id}.nii.gz"]
    command += ["--participants", str(site.folder / "participants.tsv"), "--out", str(out)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    maes = f"{metrics['untuned']['mae']:8.2f} {metrics['tuned']['mae']:8.2f}"
    assert f"mae          {maes}  years" in shown
    assert "12 scans of 12 participants" in shown
    assert "does not say whom" in shown
    assert "did not help" not in shown
    assert main(command) == 2
    assert "holds a model" in capsys.readouterr().err
