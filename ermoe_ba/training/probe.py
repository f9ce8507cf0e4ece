"""What is the routing worth? The error of trained networks when their routing is interfered with.

Shapes: B scans, T tokens, E experts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.metrics import load_gini
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import Routing

Probe = dict[str, float | list[float]]


@torch.no_grad()
def probe_routing(
    members: Sequence[ErmoeBrainAge], described: Sequence[Tensor], ages_b: Tensor, seed: int
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
        Of the random routing.

    Returns
    -------
    dict
        Mean absolute errors in years: ``mae``; ``mae_random_routing`` (each token's weights given
        to experts at random), ``mae_other_subject_routing`` (those of the scan before),
        ``mae_without_expert`` (list over experts); and per layer of experts, as lists,
        ``mae_zeroed`` (experts silenced), ``load_gini`` and ``dead_experts`` (means over members).
        ``threshold_fallback_share`` is the share of tokens that no expert was eligible for,
        ``max_orthonormality_error`` the largest ``|Q^T Q - I|`` of any basis.

    Raises
    ------
    ValueError
        If there is one scan only: it has no other subject.
    """
    if len(ages_b) < 2:
        raise ValueError("At least two scans are needed: routing is taken from another one.")
    outputs = [m.read_age(d) for m, d in zip(members, described, strict=True)]
    random = torch.Generator().manual_seed(seed)
    shuffle = torch.rand(outputs[0].routing.weights_bte.shape, generator=random).argsort(dim=-1)

    def mae(ages: Sequence[Tensor]) -> float:
        return float((torch.stack(list(ages)).mean(dim=0) - ages_b).abs().mean())

    def rerouted(change: Callable[[Tensor], Tensor]) -> float:
        ages = []
        for member, scans, output in zip(members, described, outputs, strict=True):
            weights: Tensor = change(output.routing.weights_bte)
            routing: Routing = replace(output.routing, weights_bte=weights)
            ages.append(member.read_age(scans, routing).age_b)
        return mae(ages)

    loads = [output.routing.selected_bte.float().mean(dim=(0, 1)) for output in outputs]
    return {
        "mae": mae([output.age_b for output in outputs]),
        "mae_zeroed": [mae([output.baseline.expand_as(ages_b) for output in outputs])],
        "mae_random_routing": rerouted(lambda weights: weights.gather(-1, shuffle)),
        "mae_other_subject_routing": rerouted(lambda weights: weights.roll(1, dims=0)),
        "mae_without_expert": [
            mae([o.age_b - o.contributions_bte[..., expert].sum(dim=1) for o in outputs])
            for expert in range(members[0].config.num_experts)
        ],
        "load_gini": [float(np.mean([load_gini(load.numpy()) for load in loads]))],
        "dead_experts": [float(np.mean([float((load == 0).sum()) for load in loads]))],
        "threshold_fallback_share": float(
            np.mean([float(o.routing.fallback_bt.float().mean()) for o in outputs])
        ),
        "max_orthonormality_error": max(_orthonormality_error(member) for member in members),
    }


def _orthonormality_error(member: ErmoeBrainAge) -> float:
    identity = torch.eye(member.config.rank)
    bases = member.experts.bases()
    return max(float((basis.transpose(1, 2) @ basis - identity).abs().max()) for basis in bases)
