"""ERMoE-ba: from a T1w volume to an age that is the sum of its experts' contributions.

Shapes: B scans, I J K voxels, T tokens, F families of description, C tissue classes,
D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.age_curve import AgeCurve
from ermoe_ba.model.atlas_shares import AtlasShares
from ermoe_ba.model.attention import ContextAttention, sincos_positions
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.content import TokenContent
from ermoe_ba.model.description import TokenDescription
from ermoe_ba.model.experts import EigenExperts
from ermoe_ba.model.orthogonal import complement_columns
from ermoe_ba.model.output import ModelOutput, Routing
from ermoe_ba.model.routing import EigenbasisRouter, cosines_by_complement
from ermoe_ba.tokens import TokenGrid

# Where a token's description holds how much of each tissue class there is in it.
FRACTION = list(FAMILIES).index("fraction")


class ErmoeBrainAge(TokenDescription, TokenContent):
    """The network: context routes, local content contributes.

    ``age = curve(baseline + sum_te (scale / T * w_te a_e(x_t) - reference_te))``, with the curve
    that `AgeCurve` describes, which also parts the age among the shares. The token x_t is its
    place's code plus its content: what the tissue at that place looks like against the cohort's
    mean there. The routing weight w_te may look at the whole brain. Without the place's code, a
    brain and its opposite would be routed alike, for a cosine keeps its value where both sides
    change their sign. Content is centred on the cohort and not on the scan: a scan's own mean tells
    how far the whole brain has aged, and routing without it hardly differed between subjects. The
    reference is the cohort's mean share, so that a contribution tells what this brain adds to an
    average one. The age has no other source than the experts, so they cannot be bypassed, and the
    share of each token and expert is exact.

    Parameters
    ----------
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    orthogonal : {"qr", "cayley", "penalty"}
        As `EigenExperts` takes it; trained weights hold for the map they were trained with.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr") -> None:
        super().__init__()
        self.config = config
        num_tokens, num_classes = len(tokens), len(TISSUES)
        self.hold_stem(tokens, config)
        self.hold_content(tokens, config)
        self.curve = AgeCurve(config.age_bounds)
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("reference_te", torch.zeros(num_tokens, config.num_experts))
        position_td = sincos_positions(tokens.centres_mm, config.hidden_size)
        self.place_td = nn.Parameter(config.place_scale * position_td)
        self.context = ContextAttention(config.hidden_size, config.num_heads, position_td)
        self.experts = EigenExperts(
            config.num_experts,
            config.hidden_size,
            config.rank,
            num_tokens,
            config.offset_scale,
            orthogonal=orthogonal,
        )
        self.router = EigenbasisRouter.of(config)
        self.by_complement = self.experts.fill_most
        member = torch.tensor(
            [[t in config.tissues_of(r) for t in TISSUES] for r in config.regions]
        )
        self.register_buffer("region_ec", member.float().reshape(-1, num_classes), persistent=False)
        self.atlas_shares = AtlasShares(config, tokens)
        self.reference_te: Tensor
        self.baseline: Tensor
        self.scale: Tensor
        self.region_ec: Tensor

    def forward(self, t1w_bijk: Tensor) -> ModelOutput:
        """Predict ages from scans.

        Parameters
        ----------
        t1w_bijk : Tensor
            Preprocessed intensities on the model grid.

        Returns
        -------
        ModelOutput
            Age in years with everything it is made of.
        """
        described_btfc = self.describe(t1w_bijk)
        # Cosines that are compared, and years that are summed, need more than bfloat16's 8 bits.
        with torch.autocast(t1w_bijk.device.type, enabled=False):
            return self.read_age(described_btfc.float())

    def read_age(self, described_btfc: Tensor, routing: Routing | None = None) -> ModelOutput:
        """Predict ages from the description of the tokens.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.
        routing : Routing, optional
            Taken instead of the network's own, to ask what routing is worth.

        Returns
        -------
        ModelOutput
            As from `forward`.
        """
        shares_bte, routing = self.shares(described_btfc, routing)
        parts = self.curve.parted(self.score_without_experts(described_btfc), shares_bte)
        return ModelOutput(*parts, routing, described_btfc[:, :, FRACTION])

    def score_without_experts(self, _: Tensor) -> Tensor:
        """Return the score that silent experts leave: the baseline, as no path leads around them.

        Parameters
        ----------
        _ : Tensor
            As in `read_age`; rivals look at it.

        Returns
        -------
        Tensor
            A scalar; of a rival with a path around its experts, shape (B,).
        """
        return self.baseline

    def shares(
        self, described_btfc: Tensor, routing: Routing | None = None
    ) -> tuple[Tensor, Routing]:
        """Return what the age is the curve of, part by part.

        Parameters
        ----------
        described_btfc : Tensor
            As in `read_age`.
        routing : Routing, optional
            As in `read_age`.

        Returns
        -------
        Tensor, shape (B, T, E)
            ``scale / T * w_te a_e(x_t) - reference_te``: on the scale of the curve's scores.
        Routing
            The network's own, or that given.
        """
        content_btd = self.content(described_btfc)
        u_edr, v_edr = self.experts.bases()
        # A step makes, keeps and differentiates projections of every token, or of what is left out.
        if self.training and self.by_complement:
            if routing is None:
                region_bte = self._region_shares(described_btfc)
                routing = self._route_by_complement(content_btd, v_edr, region_bte)
            says_bte = self.experts.read(content_btd, u_edr, v_edr)
        else:
            z_bter = torch.einsum("btd,edr->bter", content_btd, v_edr)
            if routing is None:
                region_bte = self._region_shares(described_btfc)
                routing = self._route(content_btd, z_bter, v_edr, region_bte)
            says_bte = self.experts(z_bter, u_edr)
        weights_bte = self._drop_tokens(routing.weights_bte)
        shares_bte = self.scale * weights_bte * says_bte / says_bte.shape[1] - self.reference_te
        return shares_bte, routing

    def _region_shares(self, described_btfc: Tensor) -> Tensor:
        """Return the share of each token that the region of each regional expert fills."""
        return self.atlas_shares(described_btfc[:, :, FRACTION] @ self.region_ec.T)

    def _route(
        self, content_btd: Tensor, z_bter: Tensor, v_edr: Tensor, region_bte: Tensor
    ) -> Routing:
        token = self._placed(z_bter, v_edr)
        context = torch.einsum("btd,edr->bter", self.context(content_btd), v_edr)
        routing: Routing = self.router(token, context, region_bte)
        return routing

    def _route_by_complement(
        self, content_btd: Tensor, v_edr: Tensor, region_bte: Tensor
    ) -> Routing:
        """Route as `_route` does, but for rounding, without the projections of every token."""
        placed_btd, context_btd = content_btd + self.place_td, self.context(content_btd)
        scores_bte = cosines_by_complement(placed_btd, context_btd, complement_columns(v_edr))
        return self.router.select(scores_bte, region_bte)

    def _placed(self, z_bter: Tensor, v_edr: Tensor) -> Tensor:
        """Return the projections of the tokens, the code of their place included."""
        # The projection of content and place is the sum of theirs: that of the content is known.
        return z_bter + torch.einsum("td,edr->ter", self.place_td, v_edr)

    def _drop_tokens(self, weights_bte: Tensor) -> Tensor:
        """Silence a share of the tokens in training, the others raised to make up for them."""
        keep = functional.dropout(
            torch.ones_like(weights_bte[..., :1]), self.config.token_dropout, self.training
        )
        return weights_bte * keep

    def readout_inputs(self, described_btfc: Tensor) -> Tensor:
        """Return what the position read-outs multiply, with the routing as it is.

        The score is linear in them: ``scale * sum_t q_t . phi_t`` and what does not depend on them,
        with ``phi_t = sum_e w_te U_e (diag(s_e) V_e^T x_t + m_e) / T``.

        Parameters
        ----------
        described_btfc : Tensor
            As `describe` returns it.

        Returns
        -------
        Tensor, shape (B, T, D)
            phi, no token silenced.
        """
        weights_bte = self.shares(described_btfc)[1].weights_bte
        u_edr, v_edr = self.experts.bases()
        z_bter = torch.einsum("btd,edr->bter", self.content(described_btfc), v_edr)
        # Two operands at a time: einsum would take U first, and hold all experts' outputs at once.
        weighed_bter = self.experts.within(z_bter) * weights_bte[..., None]
        phi_btd = torch.einsum("bter,edr->btd", weighed_bter, u_edr)
        return phi_btd / phi_btd.shape[1]

    @torch.no_grad()
    def refer_to(self, described_ntfc: Tensor) -> None:
        """Make shares relative to their mean over scans; ages do not change.

        Parameters
        ----------
        described_ntfc : Tensor
            Scans of the cohort, as `describe` returns them.
        """
        mean_te = self.shares(described_ntfc)[0].mean(dim=0)
        self.reference_te += mean_te
        self.baseline += mean_te.sum()

    def auxiliary_loss(self, _: ModelOutput) -> Tensor:
        """Return what training adds to the error in years: no balancing, ever.

        Parameters
        ----------
        _ : ModelOutput
            Not looked at.

        Returns
        -------
        Tensor, shape ()
            In years; 0 where bases are orthonormal exactly.
        """
        return self.scale * self.experts.penalty()

    def after_step(self, selected_bte: Tensor) -> None:
        """Do what follows an optimiser step: let the selection bias follow the load.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """
        self.router.follow_load(selected_bte)

    @torch.no_grad()
    def permute_experts(self, order: Tensor) -> None:
        """Rename the free experts: expert e becomes what `order[e]` was; ages do not change.

        Parameters
        ----------
        order : Tensor of int, shape (E,)
            A permutation that leaves the regional experts where they are.

        Raises
        ------
        ValueError
            If `order` is no permutation, or moves a regional expert.
        """
        regional = len(self.config.regions)
        if order[:regional].tolist() != list(range(regional)):
            raise ValueError("Regional experts are tied to their regions; permute free ones only.")
        if sorted(order.tolist()) != list(range(self.config.num_experts)):
            raise ValueError(f"Each expert must appear once; found {order.tolist()}.")
        experts = self.experts
        for parameter in (
            experts.raw_u_edr,
            experts.raw_v_edr,
            experts.s_er,
            experts.offset_er,
            experts.expert_readout_ed,
        ):
            parameter.copy_(parameter[order])
        self.router.bias_e.copy_(self.router.bias_e[order])
        self.reference_te.copy_(self.reference_te[:, order])
