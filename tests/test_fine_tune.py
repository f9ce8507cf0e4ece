"""Fine-tuning: a known shift is found, written into the weights, and tested by the unknowing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_study import write_raw

from ermoe_ba.checkpoint import load_member, save_member
from ermoe_ba.cli.main import main
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.errors import UsageError
from ermoe_ba.inspection import UNUSABLE_COLUMNS
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import ModelCard, read_card, save_card
from ermoe_ba.space import Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.fine_tune import FineTuning, TuningConfig
from ermoe_ba.training.seen import find_seen
from ermoe_ba.training_scans import TrainingScans, read_training_scans, told_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")


IDS = [f"{number:02}" for number in range(12)]


@dataclass
class _Site:
    """Scans of a site, and a model of two folds that are both off by the same amount."""

    folder: Path
    model: Path
    scans: dict[str, PreparedScan]
    # What the one member of each fold says.
    by_fold: dict[str, list[float]]

    @property
    def base(self) -> dict[str, float]:
        """Ages of the model as a whole: the mean of its members."""
        return {i: float(np.mean(ages)) for i, ages in self.by_fold.items()}

    def tuning(self, ages: dict[str, float], **options: Any) -> FineTuning:
        rows = "".join(f"{i}\t{age}\n" for i, age in ages.items())
        table = self.folder / "participants.tsv"
        table.write_text(f"participant_id\tage\n{rows}", encoding="utf-8")
        options = {"config": TuningConfig(num_folds=3, min_participants=6), **options}
        out = self.folder / "tuned"
        return FineTuning(str(self.model), table, out, t1w="{participant_id}.nii.gz", **options)


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_member: Callable[..., ErmoeBrainAge],
    small_tokens: TokenGrid,
    small_brain: Volume,
    *,
    card: ModelCard,
) -> _Site:
    model = tmp_path / "model"
    members = [make_member(seed) for seed in (1, 2)]
    for fold, member in enumerate(members):
        save_member(model / f"fold-{fold}_start-0.safetensors", member)
    save_card(model, replace(card, coverage=0.5, half_width=5.0, ages=(20.0, 80.0)))
    scans, by_fold = {}, {}
    for number, i in enumerate(IDS):
        random = np.random.default_rng(number)
        data = random.uniform(0.2, 1.3, small_brain.grid.shape) * small_brain.data
        scans[i] = PreparedScan(
            participant_id=i,
            t1w=small_brain.same_grid(data.astype(np.float32)),
            brain_mask=small_brain,
            labels=None,
        )
        with torch.no_grad():
            volume = torch.as_tensor(scans[i].t1w.data)[None]
            by_fold[i] = [float(m(volume).age_b) for m in members]
        write_raw(tmp_path / f"{i}.nii.gz", number)

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        folder = tmp_path / "prepared"

        def __init__(self, *_: Any) -> None: ...

        def prepare_all(self, scans: Sequence[StudyScan], jobs: int) -> pd.DataFrame:
            return pd.DataFrame(columns=list(UNUSABLE_COLUMNS))

        def read(self, scan: StudyScan) -> PreparedScan:
            return site.scans[scan.name]

    module = "ermoe_ba.training.fine_tune"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)
    site = _Site(tmp_path, model, scans, by_fold)
    return site


def test_a_site_that_is_off_by_six_years_is_found_and_mended(
    site: _Site, small_config: ModelConfig, small_tokens: TokenGrid
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


def test_the_tuned_interval_counts_people_and_not_their_scans(site: _Site) -> None:
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


def test_the_way_is_that_which_suits_people_and_not_scans(site: _Site) -> None:
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


def test_a_site_too_small_for_the_model_s_coverage_is_refused(site: _Site) -> None:
    """Nineteen in twenty need nineteen people."""
    save_card(site.model, replace(read_card(site.model), coverage=0.95))
    tuning = site.tuning({i: 50.0 + int(i) for i in IDS})
    # Before any scan is read.
    for path in site.folder.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(UsageError, match="at least 19 participants of known age; found 12"):
        tuning.run()


def test_a_site_that_fits_is_left_alone(site: _Site) -> None:
    """Residuals of plus and minus one, evenly: any offset learnt on others makes it worse."""
    ages = {i: site.base[i] + (-1) ** int(i) for i in IDS}
    metrics = site.tuning(ages).run()
    assert metrics["untuned"]["mae"] == pytest.approx(1.0, abs=0.02)
    assert metrics["way"] == "none"
    assert metrics["tuned"]["mae"] < 1.3


def test_a_scan_s_own_age_does_not_reach_its_tuned_age(site: _Site) -> None:
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


def test_people_of_the_training_are_tested_by_their_own_fold(site: _Site) -> None:
    rows = "".join(f"{i}\tn/a\t-{i}\t{int(i) % 2}\n" for i in IDS)
    text = f"participant_id\tsession_id\tvoxel_hash\tfold\n{rows}"
    (site.model / "training_scans.tsv").write_text(text, encoding="utf-8")
    metrics = site.tuning({i: 40.0 + int(i) for i in IDS}).run()
    assert metrics["num_scans_of_training_participants"] == 12
    assert "their own fold" in metrics["remark"]
    table = pd.read_csv(site.folder / "tuned" / "predictions.tsv", sep="\t", dtype={0: str})
    own = [site.by_fold[i][int(i) % 2] for i in table["participant_id"]]
    np.testing.assert_allclose(table["predicted_age_untuned"], own, atol=0.02)
    others = [site.by_fold[i][1 - int(i) % 2] for i in table["participant_id"]]
    assert np.abs(np.subtract(own, others)).min() > 0.05


def test_a_tuned_model_has_still_seen_whom_it_had_seen(site: _Site) -> None:
    text = "participant_id\tsession_id\tvoxel_hash\tfold\nNA\tn/a\t0123\t1\n"
    (site.model / "training_scans.tsv").write_text(text, encoding="utf-8")
    site.tuning({i: 40.0 + int(i) for i in IDS}).run()
    kept = read_training_scans(site.folder / "tuned")
    assert kept is not None
    assert kept["participant_id"].tolist() == ["NA", *IDS]
    assert kept["voxel_hash"].iloc[0] == "0123"
    assert set(kept["fold"]) == {"n/a"}


@pytest.mark.parametrize("record", [None, "n/a\tn/a\tn/a\tn/a\n"], ids=["none", "of some"])
def test_whom_a_silent_base_had_seen_stays_unknown(site: _Site, record: str | None) -> None:
    """A model that was tuned from one without a record hands on that it does not know."""
    if record is not None:
        text = f"participant_id\tsession_id\tvoxel_hash\tfold\n{record}"
        (site.model / "training_scans.tsv").write_text(text, encoding="utf-8")
    metrics = site.tuning({i: 40.0 + int(i) for i in IDS}).run()
    assert "does not say" in metrics["remark"]
    tuned = site.folder / "tuned"
    table = read_training_scans(tuned)
    assert table is not None
    assert len(table) == 1 + 12
    known = TrainingScans.of(table)
    assert known.participants == set(IDS)
    assert known.find("x", told_of(table)["voxel_hash"].iloc[3]) == "yes"
    assert known.find(IDS[3], "0") == "name"
    # They may have been one of the base's.
    assert known.find("x", "0") is None
    assert known.identity != TrainingScans.of(told_of(table)).identity
    strangers = pd.DataFrame({"participant_id": ["x"], "voxel_hash": ["0"]})
    assert "does not say who else" in find_seen(tuned, strangers).remark


def test_too_few_people_and_a_folder_in_use_are_refused(site: _Site) -> None:
    ages = {i: 40.0 + int(i) for i in IDS}
    config = replace(TuningConfig(), num_folds=3)
    with pytest.raises(UsageError, match="at least 30 participants of known age; found 12"):
        site.tuning(ages, config=config).run()
    site.tuning(ages).run()
    with pytest.raises(UsageError, match="holds a model"):
        site.tuning(ages)


def test_the_command_shows_both_models_side_by_side(
    site: _Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
