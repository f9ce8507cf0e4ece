"""Routing interfered with: errors worked out by hand, and nobody routed as themselves."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_tokens import plant
from torch import Tensor

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput, Routing
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.probe import probe_routing

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@torch.no_grad()
def test_routing_probes_by_hand(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    member = make_member()
    described = plant(small_tokens, 4, seed=2).described[:, 0].float()
    output = member.read_age(described)
    # The model is right about all but the first, whom it makes four years too old.
    ages = output.age_b - torch.tensor([4.0, 0, 0, 0])
    probe = probe_routing([member], [described], ages, seed=0)
    assert probe["mae"] == pytest.approx(1.0, abs=1e-4)
    zeroed = float((48.5 - ages).abs().mean())
    assert probe["mae_zeroed"] == pytest.approx([zeroed], abs=1e-4)
    shares_be = member.shares(described)[0].sum(dim=1)
    without = []
    for expert in range(5):
        score_b = member.baseline + shares_be.sum(dim=1) - shares_be[:, expert]
        without.append(float((member.curve(score_b) - ages).abs().mean()))
    assert probe["mae_without_expert"] == pytest.approx(without, abs=1e-4)
    weights = output.routing.weights_bte
    swapped = []
    for turn in (1, 2, 3):
        rolled = replace(output.routing, weights_bte=weights.roll(turn, dims=0))
        swapped.append(float((member.read_age(described, rolled).age_b - ages).abs().mean()))
    # Of four scans, each has been routed as each other one after three turns.
    assert probe["mae_other_subject_routing"] == pytest.approx(np.mean(swapped), abs=1e-4)
    assert probe["threshold_fallback_share"] == pytest.approx(
        float(output.routing.fallback_bt.float().mean())
    )
    load = output.routing.selected_bte.float().mean(dim=(0, 1))
    assert probe["dead_experts"] == [float((load == 0).sum())]
    assert probe["max_orthonormality_error"] < 1e-5


def test_members_are_interfered_with_alike_and_averaged_after(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    members = [make_member(), make_member(seed=1)]
    described = plant(small_tokens, 3, seed=2).described[:, 0].float()
    ages = torch.tensor([30.0, 40.0, 50.0])
    with torch.no_grad():
        outputs = [member.read_age(described) for member in members]
        others = [
            [
                m.read_age(described, replace(o.routing, weights_bte=o.routing.weights_bte[order]))
                for m, o in zip(members, outputs, strict=True)
            ]
            for order in ([2, 0, 1], [1, 2, 0])
        ]
    probe = probe_routing(members, [described, described], ages, seed=0)

    def error(pair: Sequence[ModelOutput]) -> float:
        return float(((pair[0].age_b + pair[1].age_b) / 2 - ages).abs().mean())

    assert probe["mae"] == pytest.approx(error(outputs), abs=1e-4)
    expected = (error(others[0]) + error(others[1])) / 2
    assert probe["mae_other_subject_routing"] == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_random_routing_gives_each_token_its_own_weights_to_other_experts(
    make_member: Callable[..., ErmoeBrainAge],
    small_tokens: TokenGrid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = make_member()
    described = plant(small_tokens, 4, seed=2).described[:, 0].float()
    taken: list[Tensor] = []
    read = ErmoeBrainAge.read_age

    def watched(self: ErmoeBrainAge, scans: Tensor, routing: Routing | None = None) -> ModelOutput:
        if routing is not None:
            taken.append(routing.weights_bte)
        return read(self, scans, routing)

    monkeypatch.setattr(ErmoeBrainAge, "read_age", watched)
    probe_routing([member], [described], torch.full((4,), 50.0), seed=0)
    own = read(member, described).routing.weights_bte
    shuffled = taken[0]
    torch.testing.assert_close(shuffled.sort(dim=-1).values, own.sort(dim=-1).values)
    moved = (shuffled != own).any(dim=-1)
    # Two of five weights differ from 0: of 20 places for them, one is their own.
    assert 0.85 < float(moved.float().mean()) < 1.0


def test_nobody_is_routed_as_the_same_person(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """Each scan given twice, in whatever order, is as each given once: the copies are no others."""
    member = make_member()
    described = plant(small_tokens, 4, seed=2).described[:, 0].float()
    ages = torch.tensor([30.0, 40.0, 50.0, 60.0])
    once = probe_routing([member], [described], ages, seed=0)["mae_other_subject_routing"]
    for order in ([0, 0, 1, 1, 2, 2, 3, 3], [3, 1, 0, 2, 2, 0, 1, 3]):
        names = [f"p{number}" for number in order]
        twice = probe_routing([member], [described[order]], ages[order], seed=0, participants=names)
        assert twice["mae_other_subject_routing"] == pytest.approx(once, abs=1e-4)


def test_people_are_probed_alike_however_often_they_were_scanned(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    """A scan that stands three times errs as one that stands once."""
    member = make_member()
    described = plant(small_tokens, 3, seed=2).described[:, 0].float()
    ages, order = torch.tensor([30.0, 40.0, 50.0]), [0, 0, 0, 1, 2]
    once, often, as_five = (
        probe_routing([member], [described[rows]], ages[rows], seed=0, participants=names)
        for rows, names in (
            ([0, 1, 2], list("abc")),
            (order, list("aaabc")),
            (order, list("abcde")),
        )
    )
    for name in ("mae", "mae_zeroed", "mae_without_expert"):
        assert often[name] == pytest.approx(once[name], abs=1e-4)
        assert as_five[name] != pytest.approx(once[name], abs=1e-2)


def test_one_person_has_no_other_subject(
    make_member: Callable[..., ErmoeBrainAge], small_tokens: TokenGrid
) -> None:
    described = plant(small_tokens, 2, seed=2).described[:, 0].float()
    with pytest.raises(ValueError, match="two people are needed"):
        probe_routing(
            [make_member()],
            [described],
            torch.tensor([30.0, 31.0]),
            seed=0,
            participants=["a", "a"],
        )
