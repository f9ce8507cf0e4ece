"""Soft MoE: experts work on mixtures of tokens.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank; P slots an expert.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gated import free_experts
from ermoe_ba.tokens import TokenGrid


class SoftMoeBrainAge(ErmoeBrainAge):
    """The same experts and read-out on slots: convex mixtures of all tokens of a scan.

    Puigcerver 2024 (arXiv 2308.00951): with logits ``L = s normalise(H) normalise(Phi)``, a slot is
    the mixture of tokens weighed by the softmax of its column over tokens, and a token's output
    that of the slots, weighed by the softmax of its row over all slots. The read-outs of the
    positions are mixed as their tokens are. Each expert has ``k T / E`` slots, so that the experts
    work as much as with k experts a token. Contributions add up to the age, but what a token
    receives was computed from all of them.

    Parameters
    ----------
    config : ModelConfig
        Shape; regional experts become free ones, and `top_k` sets the number of slots.
    tokens : TokenGrid
        Where the tokens lie.
    orthogonal : str
        As for `ErmoeBrainAge`.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr") -> None:
        super().__init__(free_experts(config), tokens, orthogonal)
        slots = max(1, round(config.top_k * len(tokens) / config.num_experts))
        start = torch.randn(config.num_experts, slots, config.hidden_size)
        self.slots_epd = nn.Parameter(start / math.sqrt(config.hidden_size))
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def shares(
        self, described_btfc: Tensor, routing: Routing | None = None
    ) -> tuple[Tensor, Routing]:
        """Return shares and routing, as `ErmoeBrainAge.shares` does.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.
        routing : Routing, optional
            Sets how much a token takes from each expert; how it parts that among the expert's slots
            stays as it is.

        Returns
        -------
        Tensor, shape (B, T, E)
            On the scale of the curve's scores.
        Routing
            That given, or one by which all experts serve each token.
        """
        content_btd = self.content(described_btfc)
        dispatch_btep, combine_btep = self._slots(content_btd)
        own_bte = combine_btep.sum(dim=-1)
        if routing is None:
            served = torch.ones_like(own_bte, dtype=torch.bool)
            routing = Routing(own_bte, own_bte, served, ~served[..., 0])
        weights_bte = self._drop_tokens(routing.weights_bte)
        combine_btep = combine_btep * (weights_bte / own_bte)[..., None]
        position_bepd = torch.einsum(
            "btep,td->bepd", dispatch_btep, self.experts.position_readout_td
        )
        read_bepd = self.experts.expert_readout_ed[:, None] + position_bepd
        says_bep = (self._slot_outputs(content_btd, dispatch_btep) * read_bepd).sum(dim=-1)
        taken_bte = torch.einsum("btep,bep->bte", combine_btep, says_bep)
        return self.scale * taken_bte / content_btd.shape[1] - self.reference_te, routing

    def readout_inputs(self, described_btfc: Tensor) -> Tensor:
        """Return what the position read-outs multiply, as `ErmoeBrainAge.readout_inputs` does.

        A position's read-out is mixed into the slots as its token is, and the slots are weighed by
        what all tokens take from them.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, D)
            No token silenced.
        """
        content_btd = self.content(described_btfc)
        dispatch_btep, combine_btep = self._slots(content_btd)
        outputs_bepd = self._slot_outputs(content_btd, dispatch_btep)
        outputs_bepd = outputs_bepd * combine_btep.sum(dim=1)[..., None]
        phi_btd = torch.einsum("btep,bepd->btd", dispatch_btep, outputs_bepd)
        return phi_btd / phi_btd.shape[1]

    def _slots(self, content_btd: Tensor) -> tuple[Tensor, Tensor]:
        """Return `mixtures` of the tokens with place and context."""
        return self.mixtures(content_btd + self.place_td + self.context(content_btd))

    def _slot_outputs(self, content_btd: Tensor, dispatch_btep: Tensor) -> Tensor:
        """Return what the experts make of their slots, shape (B, E, P, D)."""
        u_edr, v_edr = self.experts.bases()
        mixed_bepd = torch.einsum("btep,btd->bepd", dispatch_btep, content_btd)
        z_bepr = torch.einsum("bepd,edr->bepr", mixed_bepd, v_edr)
        # As `EigenExperts.within`, whose experts stand last but one.
        within_bper = self.experts.within(z_bepr.transpose(1, 2))
        return torch.einsum("bper,edr->bepd", within_bper, u_edr)

    def mixtures(self, h_btd: Tensor) -> tuple[Tensor, Tensor]:
        """Return how slots are made of tokens, and tokens' outputs of slots.

        Parameters
        ----------
        h_btd : Tensor
            Tokens with position and context.

        Returns
        -------
        Tensor, Tensor, both of shape (B, T, E, P)
            The first sums to 1 over tokens, the second over all slots.
        """
        token = functional.normalize(h_btd, dim=-1)
        slot = functional.normalize(self.slots_epd, dim=-1)
        logits = self.logit_scale * torch.einsum("btd,epd->btep", token, slot)
        return logits.softmax(dim=1), logits.flatten(2).softmax(dim=-1).view_as(logits)

    def after_step(self, _: Tensor) -> None:
        """Do nothing: there is no choice to bias.

        Parameters
        ----------
        _ : Tensor of bool
            Not looked at.
        """
