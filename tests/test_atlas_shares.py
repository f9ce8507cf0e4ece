"""Networks whose experts are tied to an atlas: who serves where, and what weights keep of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tied_config import make_tied_config
from torch import Tensor

from ermoe_ba.checkpoint import load_ensemble, load_member, save_member
from ermoe_ba.errors import UsageError
from ermoe_ba.maps.experts import expert_labels
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.roster import FORMS, GATES, make_mixture
from ermoe_ba.model_card import ModelCard, save_card
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_tied_config"]


def _share(tokens: TokenGrid, even: float, odd: float) -> TokenGrid:
    share_t = np.where(np.arange(len(tokens)) % 2 == 0, even, odd)
    return replace(tokens, region_shares={"part": share_t})


def _cortex(tokens: TokenGrid) -> Tensor:
    """One scan in which every token is cortex through and through."""
    described = torch.zeros(1, len(tokens), len(FAMILIES), len(TISSUES))
    described[:, :, 0, TISSUES.index("cortex")] = 1.0
    return described


@torch.no_grad()
@pytest.mark.parametrize("router", ["eigenbasis", "subspace", *FORMS])
def test_an_expert_of_an_atlas_region_serves_where_it_lies(
    small_tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig], router: str
) -> None:
    """A fifth is due: a quarter of each even token is enough, three sixteenths of the odd are not.

    Tissues decide of the regions beside it, whatever their order: all is cortex, nothing fluid.
    """
    config = make_tied_config(["csf", "part", "grey_matter"], {"part": [1]})
    torch.manual_seed(0)
    network = make_mixture(router, config, _share(small_tokens, 0.25, 0.1875)).eval()
    selected = network.read_age(_cortex(small_tokens)).routing.selected_bte[0]
    free = [True, True, True]
    assert selected[::2].unique(dim=0).tolist() == [[False, True, True, *free]]
    assert selected[1::2].unique(dim=0).tolist() == [[False, False, True, *free]]


@torch.no_grad()
@pytest.mark.parametrize("router", ["soft", *GATES])
def test_a_gate_ties_no_expert_to_an_atlas(
    small_tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig], router: str
) -> None:
    network = make_mixture(router, make_tied_config(["part"], {"part": [1]}, top_k=2), small_tokens)
    assert network.read_age(_cortex(small_tokens)).age_b.isfinite().all()
    assert "atlas_shares.share_te" not in network.state_dict()


def test_without_the_shares_no_network_routes(
    small_tokens: TokenGrid, make_tied_config: Callable[..., ModelConfig]
) -> None:
    network = ErmoeBrainAge(make_tied_config(["csf", "part"], {"part": [1]}), small_tokens)
    with pytest.raises(ValueError, match="How much of each token part fill must be known"):
        network.read_age(_cortex(small_tokens))


def test_networks_without_atlas_regions_keep_what_they_kept(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """Also where the tokens know regions: weights of earlier versions must fit."""
    member = make_member(tokens=_share(small_tokens, 0.5, 0.5))
    assert not [name for name in member.state_dict() if name.startswith("atlas_shares")]
    tissue_bte = torch.rand(1, len(small_tokens), 2)
    assert member.atlas_shares(tissue_bte) is tissue_bte


@pytest.fixture
def placed_member(
    make_member: Callable[..., ErmoeBrainAge],
    make_tied_config: Callable[..., ModelConfig],
    small_tokens: TokenGrid,
) -> ErmoeBrainAge:
    """A network whose second expert's region fills a quarter of even tokens, an eighth of odd."""
    labels: dict[str, list[str | int]] = {"part": ["a label of an atlas that is gone"]}
    config = make_tied_config(["csf", "part"], labels, top_k=2)
    return make_member(config=config, tokens=_share(small_tokens, 0.25, 0.125))


@torch.no_grad()
def test_trained_weights_hold_the_shares_and_need_no_atlas(
    tmp_path: Path, placed_member: ErmoeBrainAge, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    path, config = tmp_path / "fold-0.safetensors", placed_member.config
    save_member(path, placed_member)
    loaded = load_member(path, config, small_tokens)
    expected = torch.zeros(len(small_tokens), 2)
    expected[::2, 1], expected[1::2, 1] = 0.25, 0.125
    assert torch.equal(loaded.state_dict()["atlas_shares.share_te"], expected)
    assert torch.equal(loaded(small_scans).age_b, placed_member(small_scans).age_b)
    # Of another shape: a network without the region has no place for its shares.
    with pytest.raises(UsageError, match="cannot be read"):
        load_member(path, replace(config, regions=("csf", "grey_matter")), small_tokens)


def test_tokens_may_learn_the_shares_from_weights(
    placed_member: ErmoeBrainAge, make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """A network like it is made without the atlas; of tissues alone, there is nothing to learn."""
    placed = placed_member.atlas_shares.placed(small_tokens)
    assert set(placed.region_shares) == {"part"}
    np.testing.assert_array_equal(placed.region_shares["part"][:2], [0.25, 0.125])
    alike = ErmoeBrainAge(placed_member.config, placed)
    assert torch.equal(*(n.state_dict()["atlas_shares.share_te"] for n in (alike, placed_member)))
    assert make_member().atlas_shares.placed(small_tokens) is small_tokens
    blank = ErmoeBrainAge(placed_member.config, small_tokens)
    with pytest.raises(ValueError, match="How much of each token part fill must be known"):
        blank.atlas_shares.placed(small_tokens)


@torch.no_grad()
def test_a_model_with_atlas_regions_is_loaded_without_the_atlas(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    placed_member: ErmoeBrainAge,
    small_tokens: TokenGrid,
    card: ModelCard,
) -> None:
    """The region's name is the expert's, in every table."""
    save_member(tmp_path / "fold-0.safetensors", placed_member)
    save_card(tmp_path, replace(card, model=placed_member.config))
    monkeypatch.setattr("ermoe_ba.checkpoint.token_grid", lambda _: small_tokens)
    ensemble = load_ensemble(str(tmp_path))
    described = _cortex(small_tokens)
    expected = placed_member.read_age(described)
    assert torch.equal(ensemble.members[0].read_age(described).age_b, expected.age_b)
    assert expert_labels(ensemble.card.model)["name"].tolist()[:3] == ["csf", "part", "free_1"]


@torch.no_grad()
def test_renaming_free_experts_leaves_atlas_regions_in_place(
    placed_member: ErmoeBrainAge, small_scans: Tensor
) -> None:
    before = placed_member(small_scans).age_b
    placed_member.permute_experts(torch.tensor([0, 1, 4, 2, 3]))
    torch.testing.assert_close(placed_member(small_scans).age_b, before)
    with pytest.raises(ValueError, match="tied to their regions"):
        placed_member.permute_experts(torch.tensor([1, 0, 2, 3, 4]))
