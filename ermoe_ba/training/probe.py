"""What is the routing worth? The error of trained networks when their routing is interfered with.

Shapes: B scans, T tokens, E experts.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.metrics import person_shares
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import Routing

Probe = dict[str, float | list[float]]

# By whose routing each scan is routed. With one other a scan, the error was measured to move by 0.6
# years between orders of the same 140 scans; ten others bring that to a third, at ten readings.
MOST_OTHERS = 10


@torch.no_grad()
def probe_routing(
    members: Sequence[ErmoeBrainAge],
    described: Sequence[Tensor],
    ages_b: Tensor,
    seed: int,
    *,
    participants: Sequence[str] | None = None,
) -> Probe:
    """Measure what depends on the experts and on their routing.

    Every interference is made in all members alike, and the members' ages are averaged after it, as
    they are in a prediction.

    Parameters
    ----------
    members : sequence of ErmoeBrainAge
        In evaluation mode, of one shape.
    described : sequence of Tensor, shape (B, T, F, C)
        At least two scans that no member was trained on, as each member describes them.
    ages_b : Tensor
        Their chronological ages in years.
    seed : int
        Of the random routing, and of who stands for the other subjects.
    participants : sequence of str, optional
        Whose each scan is; by default every scan is another's.

    Returns
    -------
    dict
        Mean absolute errors in years, in which scans of one person share that person's weight:
        ``mae``; ``mae_random_routing`` (each token's weights given to experts at random),
        ``mae_other_subject_routing`` (those of another person's scan, mean over ten others drawn
        for each scan, or over all where there are fewer), ``mae_without_expert`` (list over
        experts: its share of the score taken away, before the curve of ages); and per layer of
        experts, as lists, ``mae_zeroed`` (experts silenced), ``load_gini`` and ``dead_experts``
        (means over members). ``threshold_fallback_share`` is the share of tokens that no expert was
        eligible for, ``max_orthonormality_error`` the largest ``|Q^T Q - I|`` of any basis.

    Raises
    ------
    ValueError
        If all scans are one person's: there is no other subject.
    """
    if participants is None:
        participants = [str(number) for number in range(len(ages_b))]
    others = _others(participants, seed)
    outputs = [m.read_age(d) for m, d in zip(members, described, strict=True)]
    random = torch.Generator().manual_seed(seed)
    shuffle = torch.rand(outputs[0].routing.weights_bte.shape, generator=random).argsort(dim=-1)
    share_b = torch.as_tensor(person_shares(np.array(participants)), dtype=ages_b.dtype)

    def mae(ages: Sequence[Tensor]) -> float:
        error_b = (torch.stack(list(ages)).mean(dim=0) - ages_b).abs()
        return float((error_b * share_b).sum() / share_b.sum())

    def rerouted(weights: Sequence[Tensor]) -> float:
        ages = []
        for member, scans, output, weights_bte in zip(
            members, described, outputs, weights, strict=True
        ):
            routing: Routing = replace(output.routing, weights_bte=weights_bte)
            ages.append(member.read_age(scans, routing).age_b)
        return mae(ages)

    weights = [output.routing.weights_bte for output in outputs]
    shares = [m.shares(d)[0].sum(dim=1) for m, d in zip(members, described, strict=True)]

    def without(expert: int) -> list[Tensor]:
        rest = [share_be.sum(dim=1) - share_be[:, expert] for share_be in shares]
        return [
            m.curve(m.score_without_experts(d) + score_b)
            for m, d, score_b in zip(members, described, rest, strict=True)
        ]

    loads = [output.metrics for output in outputs]
    return {
        "mae": mae([output.age_b for output in outputs]),
        "mae_zeroed": [mae([output.baseline.expand_as(ages_b) for output in outputs])],
        "mae_random_routing": rerouted([each.gather(-1, shuffle) for each in weights]),
        "mae_other_subject_routing": float(
            np.mean([rerouted([each[other] for each in weights]) for other in others])
        ),
        "mae_without_expert": [
            mae(without(expert)) for expert in range(members[0].config.num_experts)
        ],
        "load_gini": [float(np.mean([float(load.gini) for load in loads]))],
        "dead_experts": [float(np.mean([float(load.dead_experts) for load in loads]))],
        "threshold_fallback_share": float(np.mean([float(load.fallback_share) for load in loads])),
        "max_orthonormality_error": max(_orthonormality_error(member) for member in members),
    }


def _others(participants: Sequence[str], seed: int) -> list[Tensor]:
    """Return whose routing each scan takes, time after time: never its own person's, none twice."""
    own = np.array(participants)
    strangers = [np.flatnonzero(own != name) for name in own]
    times = min(MOST_OTHERS, *(len(others) for others in strangers))
    if times == 0:
        raise ValueError(
            f"Scans of two people are needed: routing is taken from another one; found "
            f"{len(own)} of {own[0]}."
        )
    random = np.random.default_rng(seed)
    drawn = np.stack([random.permutation(others)[:times] for others in strangers], axis=1)
    return list(torch.as_tensor(drawn))


def _orthonormality_error(member: ErmoeBrainAge) -> float:
    identity = torch.eye(member.config.rank)
    bases = member.experts.bases()
    return max(float((basis.transpose(1, 2) @ basis - identity).abs().max()) for basis in bases)
