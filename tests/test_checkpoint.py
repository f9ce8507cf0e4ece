"""What is saved comes back to the bit, and what does not fit is refused in words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.checkpoint import (
    load_ensemble,
    load_fold,
    load_member,
    save_member,
)
from ermoe_ba.errors import UsageError
from ermoe_ba.likeness import Likeness
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import ModelCard, save_card
from ermoe_ba.model_identity import model_identity, model_name
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.matching import matched_order
from ermoe_ba.widening import Widening, save_widening

pytestmark = pytest.mark.usefixtures("one_torch_thread")

MakeMember = Callable[..., ErmoeBrainAge]


@pytest.fixture
def small_token_grid(monkeypatch: pytest.MonkeyPatch, small_tokens: TokenGrid) -> None:
    """Ensembles lie on the small brain instead of the template's."""
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)


@torch.no_grad()
def test_a_member_comes_back_to_the_bit(
    tmp_path: Path, make_member: MakeMember, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    member = make_member(seed=3)
    save_member(tmp_path / "deeper" / "fold-0.safetensors", member)
    # What is drawn at construction must not matter.
    torch.manual_seed(99)
    loaded = load_member(tmp_path / "deeper" / "fold-0.safetensors", member.config, small_tokens)
    saved = member.state_dict()
    assert saved.keys() == loaded.state_dict().keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, saved[name]), name
    assert not loaded.training
    assert torch.equal(loaded(small_scans).age_b, member(small_scans).age_b)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, make_member: MakeMember) -> None:
    for name in "ab":
        save_member(tmp_path / name, make_member(seed=3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("changes", [{"rank": 4}, {"num_free_experts": 2}, {"hidden_size": 14}])
def test_the_weights_of_another_shape_are_refused(
    tmp_path: Path,
    make_member: MakeMember,
    small_tokens: TokenGrid,
    small_config: ModelConfig,
    changes: dict[str, int],
) -> None:
    path = tmp_path / "fold-0.safetensors"
    save_member(path, make_member())
    with pytest.raises(UsageError, match="cannot be read") as caught:
        load_member(path, replace(small_config, **changes), small_tokens)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_damaged_weights_are_refused(
    tmp_path: Path, make_member: MakeMember, small_tokens: TokenGrid, damage: str
) -> None:
    path, member = tmp_path / "fold-0.safetensors", make_member()
    save_member(path, member)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": whole[:-50], "text": b"weights" * 99}[damage])
    with pytest.raises(UsageError, match="cannot be read"):
        load_member(path, member.config, small_tokens)


@pytest.mark.usefixtures("small_token_grid")
def test_an_ensemble_is_all_members_of_a_folder(
    tmp_path: Path, card: ModelCard, make_member: MakeMember
) -> None:
    for fold in range(2):
        save_member(tmp_path / f"fold-{fold}.safetensors", make_member(seed=fold))
    save_card(tmp_path, card)
    ensemble = load_ensemble(str(tmp_path))
    assert len(ensemble.members) == 2
    assert ensemble.card == card
    for fold, member in enumerate(ensemble.members):
        expected = make_member(seed=fold).experts.raw_u_edr
        assert torch.equal(member.experts.raw_u_edr, expected)
        assert not member.training


@pytest.mark.usefixtures("small_token_grid")
def test_the_model_id_changes_with_any_weight(
    tmp_path: Path, card: ModelCard, make_member: MakeMember
) -> None:
    save_card(tmp_path, card)
    ids = set()
    member = make_member()
    for _ in range(2):
        save_member(tmp_path / "fold-0.safetensors", member)
        ids.add(load_ensemble(str(tmp_path)).model_id)
        ids.add(load_ensemble(str(tmp_path)).model_id)
        with torch.no_grad():
            member.experts.s_er[0, 0] += 1e-3
    assert len(ids) == 2
    assert all(model_id.startswith("small-") for model_id in ids)


@pytest.mark.parametrize("name", ["small", "two-part", "ends-in-0123456789ab"])
def test_the_name_comes_back_out_of_the_id(
    tmp_path: Path, card: ModelCard, make_member: MakeMember, name: str
) -> None:
    save_member(tmp_path / "fold-0.safetensors", make_member())
    model_id = model_identity(tmp_path, replace(card, name=name))
    assert model_id != name
    assert model_name(model_id) == name


@pytest.mark.usefixtures("small_token_grid")
def test_a_model_trained_on_other_preprocessing_is_refused_with_both_ids(
    tmp_path: Path, card: ModelCard, make_member: MakeMember
) -> None:
    save_member(tmp_path / "fold-0.safetensors", make_member())
    save_card(tmp_path, replace(card, preprocessing_id="0123456789ab"))
    with pytest.raises(UsageError) as caught:
        load_ensemble(str(tmp_path))
    assert "0123456789ab" in str(caught.value)
    assert card.preprocess.identity() in str(caught.value)


@pytest.mark.usefixtures("small_token_grid")
def test_a_model_without_members_is_refused(tmp_path: Path, card: ModelCard) -> None:
    save_card(tmp_path, card)
    with pytest.raises(UsageError, match="at least one fold"):
        load_ensemble(str(tmp_path))


def _rule(model_id: str) -> Widening:
    likeness = Likeness(mean_q=np.zeros(3), precision_qq=np.eye(3))
    return Widening(model_id=model_id, likeness_s=(likeness,), start=1.5, slope=0.25, provenance={})


@pytest.mark.usefixtures("small_token_grid")
def test_a_rule_of_widening_belongs_to_its_weights(
    tmp_path: Path, card: ModelCard, make_member: MakeMember
) -> None:
    save_member(tmp_path / "fold-0.safetensors", make_member())
    save_card(tmp_path, card)
    bare = load_ensemble(str(tmp_path))
    assert bare.widening is None
    save_widening(tmp_path, _rule(bare.model_id))
    told = load_ensemble(str(tmp_path))
    # A rule changes no weight.
    assert told.model_id == bare.model_id
    assert told.widening is not None
    assert told.widening.identity == _rule(bare.model_id).identity
    save_widening(tmp_path, _rule("small-other"))
    with pytest.raises(UsageError, match="found that of small-other") as caught:
        load_ensemble(str(tmp_path))
    assert bare.model_id in str(caught.value)


@pytest.mark.usefixtures("small_token_grid")
def test_a_fold_is_its_own_members_alone(
    tmp_path: Path, card: ModelCard, make_member: MakeMember
) -> None:
    """Folds 1 and 10 begin alike."""
    for seed, name in enumerate(("1_start-0", "1_start-1", "10_start-0")):
        save_member(tmp_path / f"fold-{name}.safetensors", make_member(seed=seed))
    save_card(tmp_path, card)
    ensemble = load_fold(tmp_path, 1)
    assert ensemble.model_id == load_ensemble(str(tmp_path)).model_id
    assert len(ensemble.members) == 2
    for seed, member in enumerate(ensemble.members):
        assert torch.equal(member.experts.raw_u_edr, make_member(seed=seed).experts.raw_u_edr)
    with pytest.raises(UsageError, match="members of fold 2; found none"):
        load_fold(tmp_path, 2)


@pytest.mark.parametrize("permutation", [[2, 0, 1, 3], [3, 2, 1, 0], [0, 1, 2, 3]])
def test_a_planted_renaming_is_found_again(permutation: list[int]) -> None:
    """Free experts 2 to 5 of the member are those of the reference in another order, with noise."""
    random = np.random.default_rng(0)
    reference = random.uniform(0, 1, (40, 6))
    renamed = [0, 1, *(2 + p for p in permutation)]
    member = reference[:, np.argsort(renamed)] + random.normal(0, 0.1, (40, 6))
    order = matched_order(reference, member, 2)
    assert order == renamed
    # What becomes expert e resembles the reference's expert e.
    for e in range(2, 6):
        assert np.corrcoef(reference[:, e], member[:, order[e]])[0, 1] > 0.8


def test_regional_experts_are_not_matched() -> None:
    """Even where the other regional expert would resemble more."""
    reference = np.random.default_rng(1).uniform(0, 1, (40, 4))
    assert matched_order(reference, reference[:, [1, 0, 3, 2]], 2) == [0, 1, 3, 2]


def test_an_expert_that_never_varies_takes_what_is_left() -> None:
    reference = np.random.default_rng(2).uniform(0, 1, (40, 3))
    member = reference[:, [2, 1, 0]].copy()
    member[:, 1] = 0.0
    with np.errstate(invalid="ignore"):
        assert matched_order(reference, member, 0) == [2, 1, 0]
