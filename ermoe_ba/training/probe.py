"""What is the routing worth? The error of a trained network when its routing is interfered with.

Shapes: B scans, T tokens, E experts.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ermoe_ba.metrics import load_gini
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput, Routing


@torch.no_grad()
def probe_routing(
    model: ErmoeBrainAge, described_btfc: Tensor, output: ModelOutput, ages_b: Tensor, seed: int
) -> dict[str, float | list[float]]:
    """Measure what depends on the experts and on their routing.

    Parameters
    ----------
    model : ErmoeBrainAge
        In evaluation mode.
    described_btfc : Tensor
        Scans that the model was not trained on, as the model describes them.
    output : ModelOutput
        What the model makes of them.
    ages_b : Tensor
        Their chronological ages in years.
    seed : int
        Of the random routing.

    Returns
    -------
    dict
        Mean absolute errors in years: ``mae``, ``mae_zeroed`` (experts silenced),
        ``mae_random_routing`` (the token's weights given to random experts),
        ``mae_other_subject_routing``, ``mae_without_expert`` (list); and ``load_gini``,
        ``dead_experts``, ``threshold_fallback_share`` and ``max_orthonormality_error``.
    """
    routing = output.routing

    def mae(age_b: Tensor) -> float:
        return float((age_b - ages_b).abs().mean())

    def rerouted(weights_bte: Tensor) -> float:
        changed: Routing = replace(routing, weights_bte=weights_bte)
        return mae(model.read_age(described_btfc, changed).age_b)

    random = torch.Generator().manual_seed(seed)
    weights = routing.weights_bte
    shuffle = torch.rand(weights.shape, generator=random).argsort(dim=-1)
    load_e = routing.selected_bte.float().mean(dim=(0, 1))
    identity = torch.eye(model.config.rank)
    error = max(
        float((basis.transpose(1, 2) @ basis - identity).abs().max())
        for basis in model.experts.bases()
    )
    return {
        "mae": mae(output.age_b),
        "mae_zeroed": mae(output.baseline.expand_as(ages_b)),
        "mae_random_routing": rerouted(weights.gather(-1, shuffle)),
        "mae_other_subject_routing": rerouted(weights.roll(1, dims=0)),
        "mae_without_expert": [
            mae(output.age_b - output.contributions_bte[..., expert].sum(dim=1))
            for expert in range(weights.shape[-1])
        ],
        "load_gini": load_gini(load_e.numpy()),
        "dead_experts": float((load_e == 0).sum()),
        "threshold_fallback_share": float(routing.fallback_bt.float().mean()),
        "max_orthonormality_error": error,
    }
