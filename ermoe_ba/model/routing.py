"""Routing by eigenbasis score: no gate of its own, no balancing loss.

Shapes: B scans, T tokens, E experts, R rank.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.output import Routing

# Share of two vectors' squared lengths (their geometric mean) that lies inside of a subspace at
# least, where it is told from what lies outside. What remains of less is near the rounding of
# single precision; in trained networks it was 0.31 and more (25 of one run, 140 scans).
LEAST_INSIDE = 1e-6


class EigenbasisRouter(nn.Module):
    """Choose experts by the cosine of token and context in each expert's basis.

    Score: ``sigma_e = cos(V_e^T x, V_e^T c)`` (ERMoE, arXiv 2511.10971), with x and c centred by
    the caller. Expert e is eligible for a token where its score, standardised
    over the experts, reaches the threshold and, for a regional expert, where its region fills
    enough of the token. The eligible experts with the highest score plus selection bias are
    taken, at most k; where none is eligible, the best free expert serves. Weights are
    ``softmax(sigma / temperature)`` over the selected.

    The selection bias chooses and never weighs; it has no gradient and enters no loss. It follows
    the load by small steps (Wang 2024, auxiliary-loss-free balancing), here because centred
    scores alone were measured to drift to few experts.

    Parameters
    ----------
    num_regional, num_free : int
        Experts; the regional ones come first.
    top_k : int
        At most this many experts a token.
    threshold : float
        Least score of an eligible expert, in standard deviations over the experts.
    region_min_fraction : float
        Share of a token that the region of an eligible regional expert fills at least.
    temperature : float
        Of the softmax over the selected, above 0.
    bias_step : float
        Step of the selection bias; 0 switches it off.
    standardised : bool
        Whether the threshold is compared with standardised scores; else with the scores as they
        are, and is one of them, from -1 to 1.
    rescue : bool
        Whether the best free expert serves where none is eligible; else nobody does.
    """

    # Scores lie in [-1, 1]: a bias of one can already overrule half of that range.
    MAX_BIAS = 1.0

    def __init__(
        self,
        *,
        num_regional: int,
        num_free: int,
        top_k: int,
        threshold: float,
        region_min_fraction: float,
        temperature: float,
        bias_step: float,
        standardised: bool = True,
        rescue: bool = True,
    ) -> None:
        super().__init__()
        self.num_regional = num_regional
        self.top_k = top_k
        self.threshold = threshold
        self.region_min_fraction = region_min_fraction
        self.temperature = temperature
        self.bias_step = bias_step
        self.standardised = standardised
        self.rescue = rescue
        self.register_buffer("bias_e", torch.zeros(num_regional + num_free))
        self.bias_e: Tensor

    @classmethod
    def of(cls, config: ModelConfig) -> "EigenbasisRouter":
        """Return the router of a network.

        Parameters
        ----------
        config : ModelConfig
            Shape of the network.

        Returns
        -------
        EigenbasisRouter
            Its selection bias 0.
        """
        return cls(
            num_regional=len(config.regions),
            num_free=config.num_free_experts,
            top_k=config.top_k,
            threshold=config.score_threshold,
            region_min_fraction=config.region_min_fraction,
            temperature=config.temperature,
            bias_step=config.bias_step,
            standardised=config.standardise_scores,
            rescue=config.free_fallback,
        )

    def forward(self, z_bter: Tensor, context_bter: Tensor, region_bte: Tensor) -> Routing:
        """Route.

        Parameters
        ----------
        z_bter, context_bter : Tensor
            Tokens and contexts, projected on each expert's basis.
        region_bte : Tensor
            Share of the token that each regional expert's region fills, regional experts only.

        Returns
        -------
        Routing
            Scores, weights, selection and fallback.
        """
        return self.select(cosines(z_bter, context_bter), region_bte)

    def select(self, scores_bte: Tensor, region_bte: Tensor) -> Routing:
        """Choose and weigh experts by given scores.

        Parameters
        ----------
        scores_bte : Tensor
            Cosines, from -1 to 1.
        region_bte : Tensor
            As for `forward`.

        Returns
        -------
        Routing
            As from `forward`.
        """
        free = torch.ones_like(scores_bte[..., self.num_regional :], dtype=torch.bool)
        local = torch.cat([region_bte >= self.region_min_fraction, free], dim=-1)
        standing = standardise(scores_bte) if self.standardised else scores_bte
        eligible = local & (standing >= self.threshold)
        fallback = ~eligible.any(dim=-1)
        ranking = scores_bte.detach() + self.bias_e
        if self.rescue:
            best_free = ranking[..., self.num_regional :].argmax(dim=-1) + self.num_regional
            rescuer = functional.one_hot(best_free, ranking.shape[-1]).bool()
            eligible = torch.where(fallback[..., None], rescuer, eligible)
        top = ranking.masked_fill(~eligible, -torch.inf).topk(self.top_k, dim=-1).indices
        selected = torch.zeros_like(eligible).scatter(-1, top, True) & eligible
        logits = (scores_bte / self.temperature).masked_fill(~selected, -torch.inf)
        if not self.rescue:
            # The softmax over nobody is no number, and nor is its gradient.
            logits = logits.masked_fill(fallback[..., None], 0.0)
        weights = logits.softmax(dim=-1)
        return Routing(
            scores_bte, weights if self.rescue else weights * selected, selected, fallback
        )

    @torch.no_grad()
    def follow_load(self, selected_bte: Tensor) -> None:
        """Move the bias one step: up for experts below the mean load, down for those above.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """
        load = selected_bte.float().mean(dim=(0, 1))
        self.bias_e += self.bias_step * torch.sign(load.mean() - load)
        self.bias_e.clamp_(-self.MAX_BIAS, self.MAX_BIAS)


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Return the cosine of vectors along the last axis.

    Product over lengths: torch's `cosine_similarity` normalises both sides first, and its gradient
    was measured to take three times as long.

    Parameters
    ----------
    x, y : Tensor, shape (..., R)
        Vectors.

    Returns
    -------
    Tensor, shape (...)
        From -1 to 1; 0 where one has no length.
    """
    lengths = x.norm(dim=-1) * y.norm(dim=-1)
    # The floor that torch's own cosine has.
    return (x * y).sum(dim=-1) / lengths.clamp_min(1e-8)


def cosines_by_complement(x_btd: Tensor, y_btd: Tensor, outside_edk: Tensor) -> Tensor:
    """Return the cosines of projections on subspaces, from what lies outside of them.

    ``x^T P y = x^T y - (W^T x)^T (W^T y)``: where a subspace has three quarters of all dimensions,
    its complement has a quarter, and so have the products that training makes, keeps and
    differentiates. Rounding counts for more by what projecting shortens; for trained networks no
    more than in `cosines`.

    Parameters
    ----------
    x_btd, y_btd : Tensor
        Vectors, not projected.
    outside_edk : Tensor
        Orthonormal columns that span what the subspaces leave out, from `complement_columns`.

    Returns
    -------
    Tensor, shape (B, T, E)
        From -1 to 1; near 0 where next to nothing of a vector lies inside.
    """
    x_btek, y_btek = (torch.einsum("btd,edk->btek", v, outside_edk) for v in (x_btd, y_btd))

    def whole(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum(dim=-1, keepdim=True)

    def inside(one: Tensor, other: Tensor, one_out: Tensor, other_out: Tensor) -> Tensor:
        return whole(one, other) - (one_out * other_out).sum(dim=-1)

    squares_bte = inside(x_btd, x_btd, x_btek, x_btek) * inside(y_btd, y_btd, y_btek, y_btek)
    least_bt1 = LEAST_INSIDE**2 * whole(x_btd, x_btd) * whole(y_btd, y_btd)
    # The floor of `cosines`, before the root: a root of 0 has no gradient.
    squares_bte = torch.maximum(squares_bte, least_bt1.clamp_min(1e-16))
    return inside(x_btd, y_btd, x_btek, y_btek) / squares_bte.sqrt()


def standardise(scores_bte: Tensor) -> Tensor:
    """Return scores minus their mean over the experts, in their standard deviations.

    Parameters
    ----------
    scores_bte : Tensor
        Scores.

    Returns
    -------
    Tensor, shape (B, T, E)
        0 where all experts score the same.
    """
    centred = scores_bte - scores_bte.mean(dim=-1, keepdim=True)
    spread = centred.square().mean(dim=-1, keepdim=True).sqrt()
    # One expert, or equal scores: every expert stands at the mean.
    return centred / spread.clamp_min(1e-6)
