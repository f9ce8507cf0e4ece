"""The age of a network with some of its tokens masked, for `speed.py`; no recipe itself.

Shapes: B scans, T tokens, F families of description, C tissue classes, D hidden_size, H heads.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.ermoe import FRACTION, ErmoeBrainAge


def masked_age(network: ErmoeBrainAge, described_btfc: Tensor, inside_t: Tensor) -> Tensor:
    """Return ages by the tokens inside alone, the others computed all the same but masked.

    No token attends to one outside, and what those outside say is left out of the mean.

    Parameters
    ----------
    network : ErmoeBrainAge
        In evaluation mode.
    described_btfc : Tensor
        All tokens, as `ErmoeBrainAge.describe` returns them.
    inside_t : Tensor of bool
        Which tokens count; at least one.

    Returns
    -------
    Tensor, shape (B,)
        Years: those of a network that has the tokens inside alone, but for rounding.
    """
    content_btd = network.content(described_btfc)
    attention = network.context
    placed_btd = content_btd + attention.position_td

    def heads(y_btd: Tensor) -> Tensor:
        y_bthd: Tensor = y_btd.unflatten(-1, (attention.num_heads, -1))
        return y_bthd.transpose(1, 2)

    context_bhtd = functional.scaled_dot_product_attention(
        heads(attention.query(placed_btd)),
        heads(attention.key(placed_btd)),
        heads(content_btd),
        attn_mask=inside_t[None, None, None, :].expand(1, 1, len(inside_t), -1),
    )
    u_edr, v_edr = network.experts.bases()
    z_bter, placed_bter, context_bter = (
        torch.einsum("btd,edr->bter", y_btd, v_edr)
        for y_btd in (
            content_btd,
            content_btd + network.place_td,
            context_bhtd.transpose(1, 2).flatten(2),
        )
    )
    region_bte = network.atlas_shares(described_btfc[:, :, FRACTION] @ network.region_ec.T)
    routing = network.router(placed_bter, context_bter, region_bte)
    says_bte = routing.weights_bte * network.experts(z_bter, u_edr)
    score_b = network.baseline + network.scale * says_bte[:, inside_t].sum(dim=2).mean(dim=1)
    age_b: Tensor = network.curve(score_b)
    return age_b
