"""The loop: steps worked out by hand, parts of a batch, early stopping, what it tells of itself."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import AGE as QUICK_AGE
from quick_settings import OPTIMISER as QUICK_OPTIMISER
from torch import Tensor, nn

from ermoe_ba.errors import ErmoeError, UsageError
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.early_stopping import EarlyStopping
from ermoe_ba.training.history import Cost, History
from ermoe_ba.training.loop import fit
from ermoe_ba.training.scan_batches import ScanBatches, set_aside
from ermoe_ba.training.stage import Loss, Stage, Validation
from ermoe_ba.training.trackers import Tracking

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OPTIMISER = replace(QUICK_OPTIMISER, learning_rate=0.1, warmup_share=0.5, ema_decay=0.0)


class _Line(nn.Module):
    """One weight; predicts w x, and its loss is the mean absolute error."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weight))

    def loss(self, tensors: tuple[Tensor, ...]) -> Loss:
        x, y = tensors
        error = (self.w * x - y).abs()
        return Loss(error.mean(), {"error": error.detach()})

    def stage(self, num_steps: int, **settings: Any) -> Stage:
        x = torch.tensor([1.0, 2.0, 3.0, 4.0])
        batch = Batch((x, torch.full((4,), 10.0)), ("a", "b", "b", "c"))
        given = {
            "parameter_groups": [{"params": [self.w], "weight_decay": 0.5}],
            "batches": [batch] * num_steps,
            "steps_per_epoch": 2,
            "loss": self.loss,
            "describe": "line",
        }
        return Stage(**{**given, **settings})


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
    model = _Line()
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
    straight, stopped, again = _Line(), _Line(), _Line()
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


def _described(tokens: TokenGrid, num_scans: int) -> Tensor:
    random = np.random.default_rng(11)
    shape = (num_scans, 2, len(tokens), len(FAMILIES), len(TISSUES))
    return torch.as_tensor(random.uniform(0.05, 0.15, shape), dtype=torch.float32).half()


AGE = replace(QUICK_AGE, batch_size=3, optimiser=replace(QUICK_OPTIMISER, warmup_share=0.5))
AGES = np.linspace(20.0, 80.0, 9)


def _train(
    config: ModelConfig, tokens: TokenGrid, age: AgeConfig, **settings: Any
) -> tuple[ErmoeBrainAge, History]:
    torch.manual_seed(2)
    member = ErmoeBrainAge(config, tokens)
    return member, train_age(member, _described(tokens, len(AGES)), AGES, age, 4, **settings)


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
    model = _Line()
    stage = model.stage(2, loss=lambda _: Loss(model.w * float("inf")))
    says = r"step 1: the loss must be finite; found nan\. Its scans are of a, b, c\."
    with pytest.raises(ErmoeError, match=says):
        fit(model, stage, OPTIMISER)
    assert model.w.item() == 0.0


@pytest.mark.parametrize("last", [False, True])
def test_a_gradient_without_end_is_told_of_its_own_batch(last: bool) -> None:
    """The root of 0 is 0, and its slope there has no end; the step before goes well."""
    model = _Line(4.0)
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
    model = nn.ModuleDict({"line": _Line(), "other": nn.Linear(2, 2)})
    line = model["line"]
    assert isinstance(line, _Line)
    before = model["other"].weight.detach().clone()
    fit(model, line.stage(2), OPTIMISER)
    assert torch.equal(model["other"].weight, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def _watched(model: _Line, errors: list[float]) -> Validation:
    """Validation whose mean errors are as given, one an epoch."""
    given = iter(errors)

    def error(_: nn.Module, tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.full_like(tensors[0], next(given))

    batch = Batch((torch.ones(2), torch.ones(2)), ("x", "y"))
    return Validation(batch=batch, at_a_time=2, error=error, name="validation_mae")


def test_training_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    """Errors 3, 1, 2, 2: two epochs after the second nothing was better; ten were to come."""
    model, short = _Line(), _Line()
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
    model, alone = _Line(), _Line()
    fit(model, model.stage(6, validation=_watched(model, [1.0, 2.0, 3.0])), OPTIMISER)
    fit(alone, alone.stage(6), OPTIMISER)
    assert model.w.item() == alone.w.item()


def test_patience_without_validation_is_refused() -> None:
    model = _Line()
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


@pytest.mark.parametrize(("name", "value"), [("accumulation", 0), ("patience", -1)])
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*; found {value}"):
        replace(OPTIMISER, **{name: value})


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


@pytest.mark.parametrize("setting", ["mixup", "readout_length", "label_width"])
def test_negative_settings_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be 0 or more; found -1"):
        replace(AGE, **{setting: -1})


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
        described = _described(small_tokens, len(AGES))
        history = train_age(member, described, ages, age, 4, participants=names)
        found.append((member.state_dict(), history.table()["validation_mae"].iloc[-1]))
    (first, error), (second, other) = found
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert abs(other - error) > 1.0


def test_a_history_is_a_table_with_gaps() -> None:
    """A value that comes once an epoch stands in its step's row; means are over its epoch."""
    history = History()
    history.add(1, 4.0, {"mae": 5.0})
    history.add(1, 2.0, {"mae": 3.0})
    history.amend({"validation_mae": 7.0})
    history.add(2, 1.0, {"mae": 0.5, "late": 9.0})
    table = history.table()
    assert table["epoch"].tolist() == [1, 1, 2]
    assert table["validation_mae"].isna().tolist() == [True, False, True]
    assert table["late"].isna().tolist() == [True, True, False]
    assert history.epoch_means(1) == {"loss": 3.0, "mae": 4.0, "validation_mae": 7.0}
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.table().equals(table)


def test_costs_add_up() -> None:
    """30 scans in 4 s and 10 in 1 s: 8 a second; of 5 s, reading took 1 and making 2."""
    costs = [
        Cost(scans=30, seconds=4.0, reading_seconds=0.9, making_seconds=1.5, peak_memory_mb=700.0),
        Cost(scans=10, seconds=1.0, reading_seconds=0.1, making_seconds=0.5, peak_memory_mb=1500.0),
    ]
    total = sum(costs[1:], costs[0])
    assert total.scans_per_second == 8.0
    assert (total.reading_share, total.making_share) == pytest.approx((0.2, 0.4))
    assert str(total) == (
        "8.0 scans a second, 20.0% of the time in reading files, 40.0% in changing scans and "
        "making batches, peak memory 1,500 MB"
    )
    # What is no step has no pace.
    making = Cost(seconds=2.0, making_seconds=2.0, peak_memory_mb=1.0)
    assert str(making).startswith("2.0 s, 0.0% of the time in reading files, 100.0% in changing")
    nothing = Cost(peak_memory_mb=1.0)
    shares = (nothing.scans_per_second, nothing.reading_share, nothing.making_share)
    assert shares == (0.0, 0.0, 0.0)


def test_a_stage_counts_time_scans_and_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that ticks once at each look: at the start, twice a batch, at the end.

    Two steps: six looks, five ticks from first to last, of which each batch took one.
    """
    ticks = iter(range(100))
    monkeypatch.setattr("ermoe_ba.training.progress.time.perf_counter", lambda: next(ticks))
    model = _Line()
    history = fit(model, model.stage(2), OPTIMISER)
    assert (history.cost.seconds, history.cost.making_seconds) == (5.0, 2.0)
    # Nothing was read meanwhile.
    assert history.cost.reading_seconds == 0.0
    # Four scans a batch.
    assert history.cost.scans == 8
    assert 50 < history.cost.peak_memory_mb < 1e5
    assert f"line: {history.cost}" in capsys.readouterr().err


def test_the_screen_names_epoch_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    """The first losses are 10 and about 10: shown with three digits."""
    model = _Line()
    stage = model.stage(4, after_step=lambda found: {"mae": float(found["error"].mean())})
    fit(model, stage, replace(OPTIMISER, learning_rate=1e-6))
    shown = capsys.readouterr().err
    assert "epoch 2/2, loss 10, mae 10" in shown
    assert "line: 100%" in shown


def test_tensorboard_is_told_each_epoch(tmp_path: Path) -> None:
    """Two epochs of the loss, at the number of steps made, in a folder of the run's name."""
    from tensorboardX.proto.event_pb2 import Event

    model = _Line()
    tracking = Tracking(folder=tmp_path, experiment="tiny", run="fold-0_start-1")
    history = fit(model, model.stage(4), OPTIMISER, tracking=tracking)
    ((path),) = [p for p in (tmp_path / "fold-0_start-1").iterdir() if p.is_file()]
    told, data, place = [], path.read_bytes(), 0
    # TFRecord: length (8 bytes), its check (4), the event, its check (4).
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        told += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        place += length + 16
    means = [history.epoch_means(epoch)["loss"] for epoch in (1, 2)]
    assert [(tag, step) for tag, step, _ in told] == [("line/loss", 2), ("line/loss", 4)]
    assert [value for _, _, value in told] == pytest.approx(means)


@pytest.mark.parametrize(
    ("trackers", "says"), [(("wandb",), "known are"), (("mlflow",), r"ermoe_ba\[mlflow\]")]
)
def test_a_tracker_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr("ermoe_ba.training.trackers.is_mlflow_available", lambda: False)
    with pytest.raises(UsageError, match=says):
        Tracking(folder=tmp_path, experiment="tiny", run="a", trackers=trackers)
