"""Scans set aside: early stopping, participants kept whole, and scans mixed in pairs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from line_network import OPTIMISER, Line
from nine_people import AGE, AGES, draw_descriptions
from torch import Tensor, nn

from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.early_stopping import EarlyStopping
from ermoe_ba.training.loop import fit
from ermoe_ba.training.scan_batches import ScanBatches, set_aside
from ermoe_ba.training.stage import Validation

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _watched(model: Line, errors: list[float]) -> Validation:
    """Validation whose mean errors are as given, one an epoch."""
    given = iter(errors)

    def error(_: nn.Module, tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.full_like(tensors[0], next(given))

    batch = Batch((torch.ones(2), torch.ones(2)), ("x", "y"))
    return Validation(batch=batch, at_a_time=2, error=error, name="validation_mae")


def test_training_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    """Errors 3, 1, 2, 2: two epochs after the second nothing was better; ten were to come."""
    model, short = Line(), Line()
    errors = [3.0, 1.0, 2.0, 2.0, 0.0]
    config = replace(OPTIMISER, patience=2)
    history = fit(model, model.stage(20, validation=_watched(model, errors)), config)
    table = history.table()
    assert len(table) == 8
    assert table["validation_mae"].dropna().tolist() == errors[:4]
    assert table["step"][table["validation_mae"].notna()].tolist() == [2, 4, 6, 8]
    # The weight after four of twenty steps, found by watching it.
    seen: list[float] = []
    stage = short.stage(20, at_epoch=lambda _: seen.append(short.w.item()))
    fit(short, stage, OPTIMISER)
    assert model.w.item() == seen[2] != seen[4]


def test_without_patience_validation_only_watches() -> None:
    model, alone = Line(), Line()
    fit(model, model.stage(6, validation=_watched(model, [1.0, 2.0, 3.0])), OPTIMISER)
    fit(alone, alone.stage(6), OPTIMISER)
    assert model.w.item() == alone.w.item()


def test_patience_without_validation_is_refused() -> None:
    model = Line()
    with pytest.raises(UsageError, match="line: patience = 3 needs a validation part"):
        fit(model, model.stage(2), replace(OPTIMISER, patience=3))


def test_early_stopping_takes_up_where_it_stood() -> None:
    """Also before anything was seen: JSON has no infinity."""
    network = nn.Linear(1, 1)
    for scores in ([], [3.0, 4.0]):
        first, second = EarlyStopping(2), EarlyStopping(2)
        for score in scores:
            first.see(score, network)
        second.load_state_dict(first.state_dict())
        assert second.state_dict() == first.state_dict()
        assert second.best_score == (3.0 if scores else math.inf)
    second.see(3.0, network)
    assert second.is_due


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_validation_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"validation_share must be .* found {share}"):
        replace(AGE, validation_share=share)


def test_scans_set_aside_are_whole_participants() -> None:
    """Five participants with two scans each; 0.4 of them are two."""
    participants = [name for name in "abcde" for _ in range(2)]
    learnt, aside = set_aside(participants, 0.4, seed=3)
    assert sorted([*learnt, *aside]) == list(range(10))
    assert len(aside) == 4
    assert not {participants[i] for i in learnt} & {participants[i] for i in aside}
    assert all(np.diff(aside) > 0)
    other = [set_aside(participants, 0.4, seed)[1].tolist() for seed in range(8)]
    assert len({tuple(chosen) for chosen in other}) > 1
    learnt, aside = set_aside(participants, 0.0, seed=3)
    assert learnt.tolist() == list(range(10))
    assert aside.tolist() == []


def _drawn(mixup: float) -> list[Batch]:
    """Five scans in three variants, whose inputs (2, 3) are multiples of their targets (1 to 5)."""
    targets = torch.arange(1.0, 6.0)
    factors = torch.arange(1.0, 7.0).reshape(2, 3)
    inputs = (targets[:, None, None, None] * factors).expand(5, 3, 2, 3)
    batches = ScanBatches(
        inputs, targets, list("abcde"), num_epochs=40, batch_size=3, seed=2, mixup=mixup
    )
    return [batches[step] for step in range(len(batches))]


def test_mixed_scans_keep_what_ties_inputs_to_targets() -> None:
    factors = torch.arange(1.0, 7.0).reshape(2, 3)
    told = []
    for mixed, alone in zip(_drawn(0.5), _drawn(1e-6), strict=True):
        inputs, targets = mixed.tensors
        torch.testing.assert_close(inputs, targets[:, None, None] * factors)
        # A share of 0 or 1 takes one of the two whole.
        torch.testing.assert_close(alone.tensors[1], alone.tensors[1].round())
        told.extend(targets.tolist())
    assert min(told) >= 1
    assert max(told) <= 5
    # Beta(0.5, 0.5) has a variance of 1/8, so that E[l^2 + (1 - l)^2] = 3/4; a third of the scans
    # of a batch of three, and half of two, are mixed with themselves and stay. With variance 2 of
    # the targets and covariance -1/2 between two scans: 2 less (3/5 2/3 + 2/5 1/2) 1/4 2.5.
    assert np.var(told) == pytest.approx(2 - 0.6 * 0.25 * 2.5, abs=0.25)


def test_nothing_is_mixed_by_default() -> None:
    for batch in _drawn(0.0):
        names = ["abcde"[int(age) - 1] for age in batch.tensors[1]]
        assert tuple(names) == batch.participants


def test_too_few_participants_to_set_some_aside_are_refused() -> None:
    with pytest.raises(UsageError, match=r"validation_share = 0\.5 of 1 participants"):
        set_aside(["a", "a"], 0.5, seed=0)


def test_nothing_is_learnt_from_scans_set_aside(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Their ages are changed by 30 years: no weight moves, but their error does."""
    age = replace(AGE, validation_share=0.3)
    names = [f"p{number}" for number in range(len(AGES))]
    _, aside = set_aside(names, 0.3, seed=4)
    found = []
    for ages in (AGES, AGES + 30.0 * np.isin(np.arange(len(AGES)), aside)):
        torch.manual_seed(2)
        member = ErmoeBrainAge(small_config, small_tokens)
        described = draw_descriptions(small_tokens)
        history = train_age(member, described, ages, age, 4, participants=names)
        found.append((member.state_dict(), history.table()["validation_mae"].iloc[-1]))
    (first, error), (second, other) = found
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert abs(other - error) > 1.0
