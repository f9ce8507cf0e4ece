"""Whom a tuned model has seen: whom its base had, and whom it was tuned on."""

import numpy as np
import pandas as pd
import pytest
from off_site import IDS, Site, site

from ermoe_ba.training.seen import find_seen
from ermoe_ba.training_scans import TrainingScans, read_training_scans, told_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["site"]


def test_people_of_the_training_are_tested_by_their_own_fold(site: Site) -> None:
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


def test_a_tuned_model_has_still_seen_whom_it_had_seen(site: Site) -> None:
    text = "participant_id\tsession_id\tvoxel_hash\tfold\nNA\tn/a\t0123\t1\n"
    (site.model / "training_scans.tsv").write_text(text, encoding="utf-8")
    site.tuning({i: 40.0 + int(i) for i in IDS}).run()
    kept = read_training_scans(site.folder / "tuned")
    assert kept is not None
    assert kept["participant_id"].tolist() == ["NA", *IDS]
    assert kept["voxel_hash"].iloc[0] == "0123"
    assert set(kept["fold"]) == {"n/a"}


@pytest.mark.parametrize("record", [None, "n/a\tn/a\tn/a\tn/a\n"], ids=["none", "of some"])
def test_whom_a_silent_base_had_seen_stays_unknown(site: Site, record: str | None) -> None:
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
