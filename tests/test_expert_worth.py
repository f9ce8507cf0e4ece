"""What experts are worth: figures of the card of the model that predicted, and of no other."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_cohort import TOKENS, quarters, random_cohort, replaced

from ermoe_ba.cli.maps import _card
from ermoe_ba.errors import UsageError
from ermoe_ba.maps.group import write_group_maps
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.model_identity import model_identity


def test_the_table_of_experts_says_what_is_lost_without_each(tmp_path: Path) -> None:
    card = read_card(model_folder(DEFAULT_MODEL))
    names = card.model.expert_names
    rng = np.random.default_rng(0)
    shape = (3, len(TOKENS), len(names))
    cohort = replace(
        random_cohort(3),
        experts=pd.DataFrame({"index": range(1, 6), "name": names, "kind": "free"}),
        weights_pte=rng.dirichlet(np.ones(5), shape[:2]).astype(np.float32),
        years_pte=rng.normal(0, 0.02, shape).astype(np.float32),
        member_weights_mte=np.full((3, *shape[1:]), 0.2),
        member_years_mte=np.zeros((3, *shape[1:])),
    )
    quick = {"group_column": None, "permutations": 9, "surrogates": 9, "seed": 0}
    known = write_group_maps(cohort, quarters(), tmp_path / "known", **quick, card=card)
    table = pd.read_csv(tmp_path / "known" / "experts.tsv", sep="\t")
    assert table["expert"].tolist() == list(names)
    figures = np.array(card.metrics["probe_mae_without_expert"])
    np.testing.assert_allclose(table["mae_without"], figures)
    np.testing.assert_allclose(table["mae_lost"], figures - card.metrics["probe_mae"])
    assert known.description["model_mae"] == card.metrics["probe_mae"]
    assert known.description["model_mae_interfered"] == card.mae_interfered
    trained = pd.read_csv(tmp_path / "known" / "training_ages.tsv", sep="\t")
    np.testing.assert_allclose(trained["chronological_age"], card.ages)
    np.testing.assert_allclose(trained["predicted_age"], card.predictions)
    assert known.description["training_participants"] == len(card.ages)
    assert known.description["coverage"] == card.coverage
    # The people of a run are the training participants themselves, and shown already.
    own = write_group_maps(
        replaced(cohort, out_of_fold=True), quarters(), tmp_path / "known", **quick, card=card
    )
    assert own.description["training_participants"] == 0
    assert not (tmp_path / "known" / "training_ages.tsv").exists()
    unknown = write_group_maps(cohort, quarters(), tmp_path / "unknown", **quick)
    assert unknown.description["coverage"] is None
    assert unknown.tables["experts.tsv"][["mae_without", "mae_lost"]].isna().all(axis=None)
    assert unknown.description["model_mae"] is None


def test_the_shipped_model_s_card_is_found_by_the_name_in_its_predictions(tmp_path: Path) -> None:
    folder = model_folder(DEFAULT_MODEL)
    card = read_card(folder)
    identity = model_identity(folder, card)
    found = _card(tmp_path, identity, None)
    assert found is not None
    assert found.mae_with_all_experts == card.metrics["probe_mae"]
    without = found.mae_without_expert
    assert list(without.values()) == card.metrics["probe_mae_without_expert"]
    assert found.mae_interfered == {
        "zeroed": card.metrics["probe_mae_zeroed"][0],
        "random_routing": card.metrics["probe_mae_random_routing"],
        "other_subject_routing": card.metrics["probe_mae_other_subject_routing"],
    }
    assert tuple(without) == card.model.expert_names
    # Earlier weights of the same name: their figures are not these.
    assert _card(tmp_path, "ixi-hh-000000000000", None) is None
    # A run's own card stands in it, and no other may be given.
    shutil.copy(folder / "model.json", tmp_path)
    assert _card(tmp_path, "any", None) == card
    with pytest.raises(UsageError, match="leave --model out"):
        _card(tmp_path, "any", DEFAULT_MODEL)
