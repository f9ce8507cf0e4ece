"""The age stage: planted effects are learnt where they are, and nothing else moves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planted_tokens import Planted, plant
from quick_settings import AGE as QUICK_AGE
from torch import Tensor, nn

from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import FAMILIES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age
from ermoe_ba.training.content_centre import content_spread
from ermoe_ba.training.history import History
from ermoe_ba.training.stage import Stage

pytestmark = pytest.mark.usefixtures("one_torch_thread")

AGE = replace(QUICK_AGE, num_epochs=40, batch_size=10)


def _trained(config: ModelConfig, tokens: TokenGrid, planted: Planted) -> ErmoeBrainAge:
    torch.manual_seed(7)
    member = ErmoeBrainAge(config, tokens)
    train_age(member, planted.described, planted.ages, AGE, seed=7)
    return member


@torch.no_grad()
def test_a_planted_effect_is_learnt_and_found_at_its_token(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    with torch.enable_grad():
        member = _trained(small_config, small_tokens, plant(small_tokens, 60, seed=0))
    new = plant(small_tokens, 40, seed=1)
    output = member.read_age(new.described[:, 0].float())
    error = np.abs(output.age_b.numpy() - new.ages).mean()
    median_error = np.abs(new.ages - np.median(new.ages)).mean()
    assert error < 0.5 * median_error
    by_token = output.contributions_bte.sum(dim=2).numpy()
    assert by_token.std(axis=0).argmax() == new.token
    assert np.corrcoef(by_token[:, new.token], new.ages)[0, 1] > 0.9
    # Chance for comparison: the other tokens tell next to nothing.
    others = np.delete(by_token.std(axis=0), new.token)
    assert by_token[:, new.token].std() > 3 * others.max()


def test_baseline_content_and_scale_come_from_the_training_scans(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    planted = plant(small_tokens, 20, seed=0)
    changed = torch.cat([planted.described, planted.described * 0.5], dim=1)
    member = ErmoeBrainAge(small_config, small_tokens)
    train_age(member, changed, planted.ages, replace(AGE, num_epochs=1), seed=0)
    assert float(member.scale) == pytest.approx(planted.ages.std(ddof=1), rel=1e-5)
    unchanged = planted.described[:, 0].float()
    torch.testing.assert_close(member.location_tfc, unchanged.mean(dim=0))
    output = member.read_age(unchanged)
    assert output.contributions_bte.mean(dim=0).abs().max() < 1e-4
    assert float(member.baseline) == pytest.approx(float(output.age_b.mean()), abs=1e-3)


def test_content_is_standardised_within_families_and_balanced_between_them() -> None:
    """One token, two classes, two scans: they differ by 2 in one class, by 4 in the other.

    The standard deviation of two values a distance d apart is d / sqrt(2), so without a floor each
    of the eight deviations is 1 / sqrt(2): a family holds 2 x 1/2 = 1, and four of them are to hold
    a width of 64, 16 each. All spreads are therefore standard deviations over sqrt(16).
    """
    described = torch.zeros(2, 1, len(FAMILIES), 2)
    described[0] = 2.0
    described[0, ..., 1] = 4.0
    spread = content_spread(described, 0.0, 64)
    expected = torch.full((1, len(FAMILIES), 2), 2.0 / 2**0.5 / 4)
    expected[..., 1] *= 2
    torch.testing.assert_close(spread, expected)


def test_a_tissue_that_never_varies_has_the_floor_for_a_spread() -> None:
    """The floor is a share of the family's range: 0.1 of 1, and 0.1 of 0.25 for borders."""
    described = torch.zeros(3, 2, len(FAMILIES), 2)
    described[0, :, :, 0] = 1.0
    spread = content_spread(described, 0.1, 64)
    ratios = spread[0, :, 1] / spread[0, :, 0]
    deviation = 1 / 3**0.5
    for ratio, reach in zip(ratios.tolist(), FAMILIES.values(), strict=True):
        floor = 0.1 * reach
        assert ratio == pytest.approx(floor / (deviation**2 + floor**2) ** 0.5, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_to_the_bit(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    planted = plant(small_tokens, 20, seed=0)
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        member = ErmoeBrainAge(small_config, small_tokens)
        train_age(member, planted.described, planted.ages, replace(AGE, num_epochs=2), seed)
        states.append(member.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    trained = "experts.position_readout_td"
    assert not torch.equal(states[0][trained], states[2][trained])


def test_one_scan_is_too_few_to_learn_from(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """It has no spread to standardise by."""
    planted = plant(small_tokens, 20, seed=0)
    member = ErmoeBrainAge(small_config, small_tokens)
    with pytest.raises(UsageError, match=r"two scans or more; found 1, of P7\. .*fewer folds"):
        train_age(member, planted.described[:1], planted.ages[:1], AGE, 0, participants=["P7"])


def test_the_age_stage_leaves_the_stem_alone(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    member = ErmoeBrainAge(small_config, small_tokens)
    before = {name: value.clone() for name, value in member.named_parameters()}
    planted = plant(small_tokens, 20, seed=0)
    train_age(member, planted.described, planted.ages, replace(AGE, num_epochs=2), seed=0)
    for name, value in member.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("stem."), name


def test_batches_hold_every_scan_once_an_epoch(
    small_config: ModelConfig, small_tokens: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven scans in batches of three: 3, 3, 1, twice over."""
    seen: list[Tensor] = []

    def record(_: nn.Module, stage: Stage, *__: Any, **___: Any) -> History:
        assert len(stage.batches) == 6
        assert stage.steps_per_epoch == 3
        seen.extend(stage.batches[step].tensors[1] for step in range(6))
        return History()

    monkeypatch.setattr("ermoe_ba.training.age.fit", record)
    planted = plant(small_tokens, 7, seed=0)
    config = replace(AGE, num_epochs=2, batch_size=3)
    train_age(ErmoeBrainAge(small_config, small_tokens), planted.described, planted.ages, config, 0)
    assert [len(ages) for ages in seen] == [3, 3, 1, 3, 3, 1]
    for epoch in (seen[:3], seen[3:]):
        np.testing.assert_allclose(np.sort(torch.cat(epoch).numpy()), np.sort(planted.ages))
