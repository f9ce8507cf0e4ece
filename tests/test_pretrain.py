"""What is learnt before ages: what it moves, what it may see, and that it can be stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick_settings import AGE, OPTIMISER, STAGES, STEPS
from torch import Tensor

import ermoe_ba.training.loop
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age
from ermoe_ba.training.content_centre import centre_content
from ermoe_ba.training.pretext import MaskedTokens, RegionalVolumes
from ermoe_ba.training.pretrain import Lessons, SimulatedScans, pretrain
from ermoe_ba.training.pretrain_config import (
    NO_STAGES,
    MaskedStage,
    PhantomStage,
    PretrainConfig,
    VolumesStage,
)
from ermoe_ba.training.readout_start import start_readouts
from ermoe_ba.training.scan_batches import ScanBatches

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Of ErmoeBrainAge: all that the age stage trains but its read-outs.
LEARNT = (
    "embed.weight",
    "place_td",
    "context.query.weight",
    "context.key.weight",
    "experts.raw_u_edr",
    "experts.raw_v_edr",
    "experts.s_er",
    "experts.offset_er",
)
SCANS = 24


@pytest.fixture
def fresh(small_config: ModelConfig, small_tokens: TokenGrid) -> Callable[[], ErmoeBrainAge]:
    def make() -> ErmoeBrainAge:
        torch.manual_seed(1)
        return ErmoeBrainAge(small_config, small_tokens)

    return make


def _described(num_tokens: int, hidden_n: Tensor) -> Tensor:
    """All tokens of a scan vary with one number of it, so that each tells of the others."""
    random = torch.Generator().manual_seed(3)
    shape = (num_tokens, len(FAMILIES), len(TISSUES))
    base = 0.1 + 0.05 * torch.rand(shape, generator=random)
    # The same at all tokens: one linear map tells them all.
    direction = 0.03 * torch.randn(shape[1:], generator=random)
    noise = 0.003 * torch.randn((len(hidden_n), 2, *shape), generator=random)
    return (base + hidden_n[:, None, None, None, None] * direction + noise).half()


@pytest.fixture
def lessons(small_tokens: TokenGrid) -> Lessons:
    hidden_n = torch.linspace(-1.7, 1.7, SCANS)
    described = _described(len(small_tokens), hidden_n)
    people = tuple(f"s{n}" for n in range(SCANS))
    return Lessons(
        described_nv=described,
        participants=tuple(str(n) for n in range(SCANS)),
        # Three regions: with the number, against it, and twice as it is.
        volumes_nl=torch.stack([hidden_n, -hidden_n, hidden_n], dim=1),
        simulated=SimulatedScans(
            described_nv=described.flip(0),
            ages_n=np.linspace(70.0, 20.0, SCANS),
            participants=people,
        ),
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_moves_what_the_age_stage_trains_and_leaves_the_rest(
    name: str, fresh: Callable[[], ErmoeBrainAge], lessons: Lessons
) -> None:
    network, before = fresh(), fresh().state_dict()
    history = pretrain(network, name, STAGES[name], AGE, lessons, seed=2)
    assert len(history) == 3 * SCANS // 8
    after = network.state_dict()
    for parameter in LEARNT:
        assert not torch.equal(after[parameter], before[parameter]), parameter
    for buffer in after:
        if buffer.startswith("stem."):
            assert torch.equal(after[buffer], before[buffer]), buffer
    for readout in ("expert_readout_ed", "position_readout_td"):
        assert not after[f"experts.{readout}"].any(), readout
    assert not after["reference_te"].any()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["masked", "volumes"])
def test_a_stage_learns_what_can_be_learnt(
    name: str, fresh: Callable[[], ErmoeBrainAge], lessons: Lessons
) -> None:
    """One number makes all tokens and volumes: the mean alone errs by .8 of its deviation."""
    config = replace(STAGES[name], num_epochs=30)
    losses = pretrain(fresh(), name, config, AGE, lessons, seed=2).table()["loss"].to_numpy()
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_was_stopped_goes_on_to_equal_bits(
    name: str,
    fresh: Callable[[], ErmoeBrainAge],
    lessons: Lessons,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ermoe_ba.training.loop, "SNAPSHOT_STEPS", 2)
    straight = fresh()
    pretrain(straight, name, STAGES[name], AGE, lessons, seed=2)

    class StoppedError(Exception):
        """Stands for a signal."""

    draw, asked, stops = ScanBatches.__getitem__, [], [0, 5, 8]

    def stopping(batches: ScanBatches, step: int) -> Any:
        asked.append(step)
        if stops and step == stops[0]:
            stops.pop(0)
            raise StoppedError
        return draw(batches, step)

    monkeypatch.setattr(ScanBatches, "__getitem__", stopping)
    snapshot, resumed = tmp_path / "stage.snapshot", fresh()
    while stops:
        with pytest.raises(StoppedError):
            pretrain(fresh(), name, STAGES[name], AGE, lessons, seed=2, snapshot=snapshot)
    pretrain(resumed, name, STAGES[name], AGE, lessons, seed=2, snapshot=snapshot)
    # Every second step is kept, and gone on from.
    assert asked == [0, 0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 8]
    # Whoever keeps the result removes it.
    assert snapshot.exists()
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_another_seed_learns_otherwise(
    fresh: Callable[[], ErmoeBrainAge], lessons: Lessons
) -> None:
    found = []
    for seed in (2, 2, 3):
        network = fresh()
        pretrain(network, "masked", STAGES["masked"], AGE, lessons, seed=seed)
        found.append(network.embed.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_hidden_tokens_are_told_from_shown_ones_alone(
    fresh: Callable[[], ErmoeBrainAge], lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = fresh()
    described = lessons.described_nv[:4, 0].float()
    centre_content(network, lessons.described_nv[:, 0].float(), 0.05)
    task = MaskedTokens(network, 0.5)
    hidden = torch.zeros(described.shape[:2], dtype=torch.bool)
    hidden[:, ::3] = True
    hidden[3] = False
    # 0 is below every share, 1 above.
    monkeypatch.setattr("torch.rand", lambda *_, **__: (~hidden).float())
    told: list[Tensor] = []
    task.tell.register_forward_hook(lambda _, __, said: told.append(said.detach()))
    error, _ = task.errors(described, torch.zeros(4))
    other = described + 0.2 * hidden[..., None, None]
    again, _ = task.errors(other, torch.zeros(4))
    assert torch.equal(told[0], told[1])
    for picture, found in ((described, error), (other, again)):
        wanted = ((picture - network.location_tfc) / network.spread_tfc).flatten(2)
        apart = (told[0] - wanted).abs().mean(dim=-1)
        expected = torch.stack([apart[n][hidden[n]].mean() for n in range(3)])
        torch.testing.assert_close(found[:3], expected)
        # Nothing was hidden of the last one.
        assert found[3] == 0
    shown, _ = task.errors(described + 0.2 * ~hidden[..., None, None], torch.zeros(4))
    assert (shown[:3] != error[:3]).all()


def test_volumes_are_sums_over_places_by_hand(
    fresh: Callable[[], ErmoeBrainAge], lessons: Lessons
) -> None:
    network = fresh().eval()
    described = lessons.described_nv[:3, 0].float()
    centre_content(network, lessons.described_nv[:, 0].float(), 0.05)
    task = RegionalVolumes(network, 2)
    phi_btd = network.readout_inputs(described)
    with torch.no_grad():
        # They start at their means, which are 0.
        start, _ = task.errors(described, torch.tensor([[1.0, 2.0]]).expand(3, 2))
        assert start.tolist() == [1.5] * 3
        task.what_ld.normal_()
        # The first region is read at one token alone.
        task.where_lt.zero_()
        task.where_lt[0, 5] = 2.0
        task.where_lt[1] = 1.0
        first = 2 * phi_btd[:, 5] @ task.what_ld[0]
        second = phi_btd.sum(dim=1) @ task.what_ld[1]
        error, _ = task.errors(described, torch.zeros(3, 2))
    torch.testing.assert_close(error, (first.abs() + second.abs()) / 2)


def test_read_outs_start_from_what_was_learnt_before(
    fresh: Callable[[], ErmoeBrainAge], lessons: Lessons
) -> None:
    """With no step worth the name, they are the ridge regression on pre-trained features."""
    ages = np.linspace(20.0, 80.0, SCANS)
    still = replace(AGE, optimiser=replace(OPTIMISER, learning_rate=1e-30, ema_decay=0.0))
    found = {}
    for name in ("none", "phantom", "masked"):
        network, reference = fresh(), fresh()
        if name != "none":
            for each in (network, reference):
                pretrain(each, name, STAGES[name], AGE, lessons, seed=2)
        unchanged = lessons.described_nv[:, 0].float()
        centre_content(reference, unchanged, AGE.spread_floor)
        reference.scale.fill_(float(torch.as_tensor(ages, dtype=torch.float32).std()))
        start_readouts(reference, lessons.described_nv, ages, AGE.ridge_strength, AGE.invariance)
        train_age(network, lessons.described_nv, ages, still, 4)
        found[name] = network.experts.position_readout_td.detach()
        torch.testing.assert_close(found[name], reference.experts.position_readout_td.detach())
    assert not torch.allclose(found["none"], found["phantom"], rtol=0.01)
    assert not torch.allclose(found["none"], found["masked"], rtol=0.01)


def test_stages_come_in_one_order_whatever_the_recipe_s() -> None:
    config = PretrainConfig(
        volumes=VolumesStage(**STEPS), phantom=PhantomStage(participants="p", **STEPS)
    )
    assert list(config.stages()) == ["phantom", "volumes"]
    assert NO_STAGES.stages() == {}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MaskedStage(share=1.0, **STEPS), "share must lie between 0 and 1; found 1.0"),
        (lambda: VolumesStage(**STEPS | {"num_epochs": 0}), "num_epochs must be at least 1"),
        (lambda: VolumesStage(**STEPS | {"batch_size": 0}), "batch_size must be at least 1"),
        (
            lambda: VolumesStage(**STEPS | {"optimiser": replace(OPTIMISER, patience=2)}),
            "patience must be 0",
        ),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
