"""Out of fold: each scan by its own fold's members; regions of label maps; another router."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from quick_settings import AGE, OPTIMISER
from safetensors.torch import save_file
from torch import Tensor

from ermoe_ba.attribution.out_of_fold import OutOfFold, read_out_of_fold
from ermoe_ba.attribution.regions import PAIRS, relative_volumes, token_shares
from ermoe_ba.attribution.rival_routing import rival_routing
from ermoe_ba.checkpoint import save_member
from ermoe_ba.cohort import Participants
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import write_json, write_volume
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import FRACTION, ErmoeBrainAge
from ermoe_ba.model_card import ModelCard
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")

FOLDS = {"a": 1, "b": 0, "c": 1, "d": 0, "e": 1}
AGES = {"a": 30.0, "b": 45.0, "c": 52.0, "d": 61.0, "e": 70.0}
STARTS = 2


@dataclass(frozen=True)
class _Run:
    folder: Path
    members: dict[tuple[int, int], ErmoeBrainAge]
    described: dict[str, Tensor]


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_member: Callable[..., ErmoeBrainAge],
    small_config: ModelConfig,
    small_tokens: TokenGrid,
) -> _Run:
    """A finished run of two folds, two starts each, on five people."""
    torch.manual_seed(0)
    shape = (len(small_tokens), len(FAMILIES), len(TISSUES))
    described = {name: (0.1 + 0.05 * torch.rand(shape)).half() for name in FOLDS}
    members = {}
    for fold in (0, 1):
        for start in range(STARTS):
            member = make_member(seed=10 * fold + start)
            members[fold, start] = member
            save_member(tmp_path / f"fold-{fold}_start-{start}.safetensors", member)
        test = [name for name in FOLDS if FOLDS[name] == fold]
        train = [name for name in FOLDS if FOLDS[name] != fold]
        kept = {
            "test": torch.stack([described[name][None] for name in test]),
            "train": torch.stack([described[name][None] for name in train]),
        }
        (tmp_path / "kept").mkdir(exist_ok=True)
        save_file(kept, tmp_path / "kept" / f"fold-{fold}_described.safetensors")
        rows = "".join(f"{name}\t{fold}\t{AGES[name]}\t50.0\n" for name in test)
        header = "participant_id\tfold\tchronological_age\tpredicted_age\n"
        (tmp_path / f"fold-{fold}_predictions.tsv").write_text(header + rows, encoding="utf-8")
    rows = "".join(f"{name}\t{fold}\n" for name, fold in FOLDS.items())
    (tmp_path / "splits.tsv").write_text(f"participant_id\tfold\n{rows}", encoding="utf-8")
    rows = "".join(f"{name}\t{name}\t{age}\n" for name, age in AGES.items())
    header = "scan\tparticipant_id\tchronological_age\n"
    (tmp_path / "scans.tsv").write_text(header + rows, encoding="utf-8")
    card = SimpleNamespace(name="r", model=small_config)
    monkeypatch.setattr("ermoe_ba.attribution.out_of_fold.read_card", lambda _: card)
    for module in ("out_of_fold", "rival_routing"):
        monkeypatch.setattr(f"ermoe_ba.attribution.{module}.token_grid", lambda _: small_tokens)
    return _Run(tmp_path, members, described)


@torch.no_grad()
def test_each_scan_is_read_by_the_members_of_its_own_fold(run: _Run) -> None:
    seen = read_out_of_fold(run.folder)
    assert seen.table["participant_id"].tolist() == ["b", "d", "a", "c", "e"]
    assert seen.config.regions == ("grey_matter", "csf")
    for row, name in enumerate(seen.table["participant_id"]):
        outputs = [
            run.members[FOLDS[name], start].read_age(run.described[name][None].float())
            for start in range(STARTS)
        ]
        mean = torch.stack([o.contributions_bte.sum(dim=-1)[0] for o in outputs]).mean(dim=0)
        np.testing.assert_allclose(seen.years_nt[row], mean.numpy(), atol=1e-5)
        weights = np.stack([o.routing.weights_bte[0].numpy() for o in outputs])
        np.testing.assert_allclose(seen.weights_nmte[row], weights, atol=1e-6)
        baseline = np.mean([float(o.baseline) for o in outputs])
        assert seen.baseline_n[row] == pytest.approx(baseline)
        age = torch.stack([o.age_b for o in outputs]).mean()
        assert seen.years_nt[row].sum() + baseline == pytest.approx(float(age), abs=1e-4)
        fractions = run.described[name][:, FRACTION].float()
        np.testing.assert_allclose(seen.fractions_ntc[row], fractions.numpy())


def test_as_a_cohort_each_participant_counts_once_and_each_member_its_own_fold(run: _Run) -> None:
    seen = read_out_of_fold(run.folder)
    # The second scan of a becomes one of c: four participants, of whom c has two scans.
    table = seen.table.copy()
    table.loc[table["participant_id"] == "a", "participant_id"] = "c"
    cohort = replace(seen, table=table).cohort()
    assert cohort.out_of_fold
    assert cohort.people["participant_id"].tolist() == ["b", "d", "c", "e"]
    assert cohort.people["scans"].tolist() == [1, 1, 2, 1]
    assert cohort.people.loc[2, "chronological_age"] == pytest.approx((30 + 52) / 2)
    assert cohort.member_stems == [0, 0, 1, 1]
    assert cohort.experts["name"].tolist() == list(seen.config.expert_names)
    assert cohort.model_id.startswith("r-")
    person_c = seen.weights_nmte[2:4].mean(axis=0)
    np.testing.assert_allclose(cohort.weights_pte[2], person_c.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(cohort.years_pte[1], seen.years_nmte[1].mean(axis=0), atol=1e-6)
    # Members of the second fold saw c and e, those of the first b and d.
    np.testing.assert_allclose(
        cohort.member_weights_mte[2:], (person_c + seen.weights_nmte[4]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        cohort.member_years_mte[:2], seen.years_nmte[:2].mean(axis=0), atol=1e-6
    )
    # Four people's ages make no slopes.
    assert cohort.member_on_age_mte is None
    total = cohort.years_pte.sum(axis=(1, 2)).mean() + cohort.baseline_years
    by_scan = seen.years_nt.sum(axis=1) + seen.baseline_n
    expected = np.mean([by_scan[0], by_scan[1], by_scan[2:4].mean(), by_scan[4]])
    assert total == pytest.approx(expected, abs=1e-4)


def test_maps_reads_a_run_out_of_fold_and_anything_else_as_predictions(
    run: _Run, card: ModelCard
) -> None:
    from ermoe_ba.cli.maps import _cohort

    with pytest.raises(UsageError, match="must hold results of `ermoe-ba predict`"):
        _cohort(run.folder, None)
    # What makes a folder a run's.
    write_json(run.folder / "model.json", asdict(card))
    cohort = _cohort(run.folder, None)
    assert cohort.out_of_fold
    assert len(cohort.people) == len(FOLDS)
    # Of the table's ages, the interval that the run's card states.
    lower, upper = (
        cohort.people[f"predicted_age_{end}"].to_numpy(dtype=float) for end in ("lower", "upper")
    )
    np.testing.assert_allclose(upper - lower, 2 * card.half_width)


def test_slopes_of_a_cohort_out_of_fold_are_over_whom_the_member_saw() -> None:
    """Two folds of eight people: the years of each fold's member follow ages by its own slope."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, 16)
    fold = np.arange(16) // 8
    tokens = SimpleNamespace()
    years = (np.where(fold, 0.2, -0.1) * ages)[:, None, None, None] * np.ones((16, 1, 3, 2))
    table = pd.DataFrame(
        {
            "participant_id": [f"p{n}" for n in range(16)],
            "fold": fold,
            "chronological_age": ages,
            "predicted_age": 50.0,
        }
    )
    config = SimpleNamespace(
        regions=("csf",), num_free_experts=1, num_experts=2, expert_names=("csf", "free_1")
    )
    seen = OutOfFold(
        table=table,
        model_id="m",
        config=config,  # type: ignore[arg-type]
        tokens=tokens,  # type: ignore[arg-type]
        years_nmte=years,
        weights_nmte=np.full(years.shape, 0.5),
        baseline_n=np.full(16, 50.0),
        fractions_ntc=np.zeros((16, 3, 10)),
    )
    slopes = seen.cohort().member_on_age_mte
    assert slopes is not None
    np.testing.assert_allclose(slopes[0], -0.1)
    np.testing.assert_allclose(slopes[1], 0.2)
    # Ages of the participants table count first; a fold without any leaves nothing to compare.
    known = Participants(
        pd.DataFrame({"age": np.where(fold, np.nan, ages)}, index=table["participant_id"])
    )
    assert seen.cohort(known).member_on_age_mte is None
    assert seen.cohort(known).people["chronological_age"].isna().sum() == 8


def test_a_run_that_kept_nothing_is_refused(run: _Run) -> None:
    (run.folder / "kept" / "fold-1_described.safetensors").unlink()
    with pytest.raises(UsageError, match="fold 1 must have its members"):
        read_out_of_fold(run.folder)
    for path in run.folder.glob("fold-*_predictions.tsv"):
        path.unlink()
    with pytest.raises(UsageError, match="finished run"):
        read_out_of_fold(run.folder)


def _recipe(config: ModelConfig) -> SimpleNamespace:
    slower = replace(OPTIMISER, learning_rate=0.003, warmup_share=0.4)
    age = replace(AGE, num_variants=0, num_epochs=4, batch_size=2, optimiser=slower)
    return SimpleNamespace(model=config, age=age)


def test_another_router_serves_the_test_scans_with_free_experts(
    run: _Run, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Softmax keeps the shares of the two taken: below 1 in sum, and never more than two."""
    weights = rival_routing(run.folder, _recipe(small_config), "softmax", 1, 3)  # type: ignore[arg-type]
    assert weights.shape == (3, len(small_tokens), small_config.num_experts)
    assert ((weights > 0).sum(axis=-1) == small_config.top_k).all()
    assert (weights.sum(axis=-1) < 1).all()


def test_another_router_learns_each_scans_own_age_whatever_the_order_of_the_folds(
    run: _Run, small_config: ModelConfig
) -> None:
    """A table of folds that is given may be in any order; descriptions are in that of the scans."""

    def routed() -> Array:
        # Three ages, unequally apart: reversed, they are not the same with the other sign.
        return rival_routing(run.folder, _recipe(small_config), "softmax", 0, 3)  # type: ignore[arg-type]

    before = routed()
    path = run.folder / "splits.tsv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n", encoding="utf-8")
    np.testing.assert_array_equal(routed(), before)


def test_scans_must_fit_what_was_kept(run: _Run, small_config: ModelConfig) -> None:
    with (run.folder / "splits.tsv").open("a", encoding="utf-8") as file:
        file.write("z\t0\n")
    with (run.folder / "scans.tsv").open("a", encoding="utf-8") as file:
        file.write("z\tz\t33.0\n")
    with pytest.raises(UsageError, match=r"3 training scans of fold 1, 2 descriptions and 0 scans"):
        rival_routing(run.folder, _recipe(small_config), "softmax", 1, 3)  # type: ignore[arg-type]
    with (run.folder / "scans.tsv").open("a", encoding="utf-8") as file:
        file.write("y\ty\t34.0\n")
    with pytest.raises(UsageError, match=r"2 descriptions and 1 scans without a fold"):
        rival_routing(run.folder, _recipe(small_config), "softmax", 1, 3)  # type: ignore[arg-type]


def test_shares_of_regions_by_hand(oblique_grid: SpatialGrid) -> None:
    """MUSE 47 and 48 are the hippocampi, 51 and 52 the lateral ventricles; 1 is no region."""
    tokens = TokenGrid.over(Volume(np.ones((5, 7, 9)), oblique_grid), 4, 0.0)
    muse = np.zeros((5, 7, 9), dtype=np.int16)
    # The first token holds voxels 0-2, 0-3, 0-2: a plane of 12 left, half of one right.
    muse[0, :4, :3], muse[1, :2, :3], muse[2, :4, :3] = 48, 47, 1
    muse[3, 4, 7] = 52
    brain = np.ones((5, 7, 9), dtype=np.uint8)
    brain[1, 0, 0] = 0
    shares = token_shares(tokens, Volume(muse, oblique_grid), Volume(brain, oblique_grid))
    hippocampus, ventricle = PAIRS.index("hippocampus"), PAIRS.index("lateral_ventricle")
    assert shares.shape == (len(tokens), len(PAIRS))
    # 12 + 6 less the one voxel outside the brain, of 36 less that one.
    assert shares[0, hippocampus] == pytest.approx(17 / 35)
    assert shares[0].sum() == pytest.approx(17 / 35)
    last = int(np.flatnonzero((tokens.positions == (1, 1, 2)).all(axis=1))[0])
    # Voxels 3-4, 4-6, 7-8 of the grid.
    assert shares[last, ventricle] == pytest.approx(1 / 12)


def test_volumes_of_a_label_map_by_hand(tmp_path: Path, oblique_grid: SpatialGrid) -> None:
    """Of ten labelled voxels four are hippocampus, on either side, and one is sulcal fluid."""
    labels = np.zeros((5, 7, 9), dtype=np.int16)
    labels[0, 0, :3], labels[1, 0, 0], labels[2, 0, 0] = 47, 48, 1
    labels[3, 0, :5] = 52
    path = tmp_path / "a_dseg.nii.gz"
    write_volume(path, Volume(labels, oblique_grid))
    volumes = relative_volumes(path)
    assert volumes[PAIRS.index("hippocampus")] == pytest.approx(0.4)
    assert volumes[PAIRS.index("lateral_ventricle")] == pytest.approx(0.5)
    assert volumes.sum() == pytest.approx(0.9)
    write_volume(path, Volume(0 * labels, oblique_grid))
    with pytest.raises(ScanError, match="nothing but 0"):
        relative_volumes(path)
