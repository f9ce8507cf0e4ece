"""The loop: steps worked out by hand, parts of a batch, and losses that are no numbers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from line_network import OPTIMISER, Line
from nine_people import AGE, AGES, draw_descriptions
from torch import Tensor, nn

from ermoe_ba.errors import ErmoeError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.history import History
from ermoe_ba.training.loop import fit
from ermoe_ba.training.stage import Loss, Stage

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_three_steps_by_hand() -> None:
    """AdamW (Loshchilov 2019) on one weight whose gradient is -2.5, cut to -1, at every step.

    With equal gradients Adam's two moments, freed of their bias, are -1 and 1: a step is
    ``w <- w (1 - rate * decay) + rate``. Of three steps, half of them warm-up, the rate of the
    first is a twenty-fifth of 0.1; the peak lies at 3 / 2 - 1 = half a step, so that the second and
    third fall along the cosine from 0.1 to 0.1 / 25 / 10^4: a third of the way, and the whole.
    """
    low, peak, end = 0.1 / 25, 0.1, 0.1 / 25 / 1e4

    def fallen(part: float) -> float:
        return end + (peak - end) * (1 + math.cos(math.pi * part)) / 2

    rates = [low, fallen((1 - 0.5) / 1.5), fallen(1.0)]
    weights = [0.0]
    for rate in rates:
        weights.append(weights[-1] * (1 - 0.5 * rate) + rate)
    model = Line()
    history = fit(model, model.stage(3), OPTIMISER)
    # The mean of 10 - w x over x = 1 to 4.
    losses = [10 - 2.5 * w for w in weights[:3]]
    assert history.table()["loss"].to_list() == pytest.approx(losses, rel=1e-6)
    assert model.w.item() == pytest.approx(weights[3], rel=1e-6)


def test_a_stage_that_a_full_disk_stopped_goes_on_from_the_snapshot_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot a step; the disk is full halfway through the third: one step is made again."""
    monkeypatch.setattr("ermoe_ba.training.loop.SNAPSHOT_STEPS", 1)
    straight, stopped, again = Line(), Line(), Line()
    history = fit(straight, straight.stage(5), OPTIMISER)
    snapshot, sizes, write = tmp_path / "line.snapshot", list[int](), Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        sizes.append(len(content))
        if len(sizes) < 3:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(OSError, match="No space left"):
            fit(stopped, stopped.stage(5), OPTIMISER, snapshot=snapshot)
    assert [path.name for path in tmp_path.iterdir()] == ["line.snapshot"]
    steps: list[float] = []

    def counted(tensors: tuple[Tensor, ...]) -> Loss:
        steps.append(again.w.item())
        return again.loss(tensors)

    found = fit(again, again.stage(5, loss=counted), OPTIMISER, snapshot=snapshot)
    assert len(steps) == 3
    assert found.table()["loss"].equals(history.table()["loss"])
    assert again.w.item() == straight.w.item()


def _train(
    config: ModelConfig, tokens: TokenGrid, age: AgeConfig, **settings: Any
) -> tuple[ErmoeBrainAge, History]:
    torch.manual_seed(2)
    member = ErmoeBrainAge(config, tokens)
    return member, train_age(member, draw_descriptions(tokens), AGES, age, 4, **settings)


def test_the_same_seed_draws_the_same_curve(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Three steps; load is a share of choices, so that the experts' shares sum to 1."""
    curves = [_train(small_config, small_tokens, AGE)[1].table() for _ in range(2)]
    assert curves[0].equals(curves[1])
    names = [f"load_{name}" for name in small_config.expert_names]
    assert list(curves[0]) == ["step", "epoch", "loss", "mae", *names]
    np.testing.assert_allclose(curves[0][names].sum(axis=1), 1.0, rtol=1e-6)
    # QR bases need no penalty: what is minimised is the error alone.
    np.testing.assert_allclose(curves[0]["loss"], curves[0]["mae"], rtol=1e-6)
    assert curves[0]["step"].tolist() == [1, 2, 3]


def test_ages_as_distributions_are_added_to_what_is_minimised(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """One scan a batch, so that the error of each step is known; one dwarf step changes nothing."""
    still = replace(AGE.optimiser, learning_rate=1e-12)
    age = replace(AGE, batch_size=1, label_width=5.0, optimiser=still)
    curve = _train(small_config, small_tokens, age)[1].table()
    # Far from the first and the last bin: the squared error over twice the width.
    inner = curve[curve["mae"] < 10]
    assert len(inner) > 2
    added = inner["loss"] - inner["mae"]
    assert (added > 0).all()
    assert (added <= inner["mae"] ** 2 / 10 * 1.001).all()


def test_parts_of_a_batch_add_up_to_it(small_config: ModelConfig, small_tokens: TokenGrid) -> None:
    """Batches of 3 in parts of 1 and 2, and of 4 with a part left empty; nobody is silenced."""
    config = replace(small_config, token_dropout=0.0)
    whole, curve = _train(config, small_tokens, AGE)
    for accumulation in (2, 4):
        age = replace(AGE, optimiser=replace(AGE.optimiser, accumulation=accumulation))
        parted, other = _train(config, small_tokens, age)
        np.testing.assert_allclose(other.table()["loss"], curve.table()["loss"], rtol=1e-5)
        # The selection bias followed the load of the whole batch, not of its parts.
        torch.testing.assert_close(parted.router.bias_e, whole.router.bias_e)


def test_bf16_rounds_what_autocast_covers() -> None:
    """A matrix product keeps 8 bits: 1 + 2^-9 becomes 1. Weights keep all of theirs."""
    seen: list[tuple[torch.dtype, float]] = []
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1 + 2**-9)

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        product = layer(tensors[0])
        seen.append((product.dtype, float(product.detach()[0, 0])))
        return Loss(product.float().mean())

    stage = Stage(
        parameter_groups=[{"params": [layer.weight], "weight_decay": 0.0}],
        batches=[Batch((torch.ones(1, 1),), ("a",))],
        steps_per_epoch=1,
        loss=loss,
        describe="product",
    )
    fit(layer, stage, replace(OPTIMISER, bf16=True))
    assert seen == [(torch.bfloat16, 1.0)]
    assert layer.weight.dtype == torch.float32


def test_a_bad_loss_names_each_participant_once() -> None:
    model = Line()
    stage = model.stage(2, loss=lambda _: Loss(model.w * float("inf")))
    says = r"step 1: the loss must be finite; found nan\. Its scans are of a, b, c\."
    with pytest.raises(ErmoeError, match=says):
        fit(model, stage, OPTIMISER)
    assert model.w.item() == 0.0


@pytest.mark.parametrize("last", [False, True])
def test_a_gradient_without_end_is_told_of_its_own_batch(last: bool) -> None:
    """The root of 0 is 0, and its slope there has no end; the step before goes well."""
    model = Line(4.0)
    x = torch.ones(1)
    batches = [Batch((x, x), (name,)) for name in ("fine", "flat", "after")]
    seen: list[float] = []

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        seen.append(model.w.item())
        return Loss((tensors[0] * model.w * (len(seen) != 2)).abs().sqrt().mean())

    stage = model.stage(0, batches=batches[: 2 if last else 3], loss=loss)
    says = (
        r"line: step 2: the gradient's length must be finite; found nan\. Its scans are of flat\."
    )
    with pytest.raises(ErmoeError, match=says):
        fit(model, stage, OPTIMISER)
    assert model.w.item() == seen[1] < 4.0


def test_what_is_in_no_group_is_left_alone_and_may_learn_later() -> None:
    model = nn.ModuleDict({"line": Line(), "other": nn.Linear(2, 2)})
    line = model["line"]
    assert isinstance(line, Line)
    before = model["other"].weight.detach().clone()
    fit(model, line.stage(2), OPTIMISER)
    assert torch.equal(model["other"].weight, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("name", "value"), [("accumulation", 0), ("patience", -1)])
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*; found {value}"):
        replace(OPTIMISER, **{name: value})


@pytest.mark.parametrize("setting", ["mixup", "readout_length", "label_width"])
def test_negative_settings_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be 0 or more; found -1"):
        replace(AGE, **{setting: -1})


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_shrinkage_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"above 0, and at most 1; found {share}"):
        replace(AGE, readout_shrinkage=share)
