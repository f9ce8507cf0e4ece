"""ERMoE-ba: from a T1w volume to an age that is the sum of its experts' contributions.

Shapes: B scans, I J K voxels, T tokens, C tissue classes, D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.attention import ContextAttention, sincos_positions
from ermoe_ba.model.config import REGIONS, TISSUES, ModelConfig
from ermoe_ba.model.experts import EigenExperts
from ermoe_ba.model.output import ModelOutput, Routing
from ermoe_ba.model.routing import EigenbasisRouter
from ermoe_ba.model.stem import PatchTokens, VoxelStem, grid_coordinates
from ermoe_ba.tokens import TokenGrid


class ErmoeBrainAge(nn.Module):
    """The network: context routes, local content contributes.

    ``age = baseline + scale * mean_t sum_e w_te a_e(x_t)``. Content x_t is the token's own tissue
    fractions against the cohort's mean at that place; the routing weight w_te may look at the whole
    brain. The age has no other source than the experts, so they cannot be bypassed, and the share
    of each token and expert is exact.

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
        self.stem = VoxelStem(config.stem_hidden)
        self.patches = PatchTokens(tokens)
        coordinates = self.patches.box(grid_coordinates(tokens.grid.shape))
        self.register_buffer("coordinates_xijk", coordinates, persistent=False)
        shape = (num_tokens, PatchTokens.CELLS, num_classes)
        self.register_buffer("location_tkc", torch.zeros(shape))
        self.register_buffer("spread_tkc", torch.ones(shape))
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))
        self.embed = nn.Linear(PatchTokens.CELLS * num_classes, config.hidden_size, bias=False)
        position_td = sincos_positions(tokens.centres_mm, config.hidden_size)
        self.context = ContextAttention(config.hidden_size, config.num_heads, position_td)
        self.experts = EigenExperts(
            config.num_experts, config.hidden_size, config.rank, num_tokens, orthogonal
        )
        self.router = EigenbasisRouter(
            num_regional=len(config.regions),
            num_free=config.num_free_experts,
            top_k=config.top_k,
            threshold=config.score_threshold,
            region_min_fraction=config.region_min_fraction,
            temperature=config.temperature,
            bias_step=config.bias_step,
        )
        member = torch.tensor([[t in REGIONS[r] for t in TISSUES] for r in config.regions])
        self.register_buffer("region_ec", member.float().reshape(-1, num_classes), persistent=False)
        self.coordinates_xijk: Tensor
        self.location_tkc: Tensor
        self.spread_tkc: Tensor
        self.baseline: Tensor
        self.scale: Tensor
        self.region_ec: Tensor

    def forward(self, t1w_bijk: Tensor, routing: Routing | None = None) -> ModelOutput:
        """Predict ages from scans.

        Parameters
        ----------
        t1w_bijk : Tensor
            Preprocessed intensities on the model grid.
        routing : Routing, optional
            Taken instead of the network's own, to ask what routing is worth.

        Returns
        -------
        ModelOutput
            Age in years with everything it is made of.
        """
        cells_btkc = self.tissue_cells(t1w_bijk)
        # Cosines that are compared, and years that are summed, need more than bfloat16's 8 bits.
        with torch.autocast(t1w_bijk.device.type, enabled=False):
            return self.read_age(cells_btkc.float(), routing)

    def tissue_cells(self, t1w_bijk: Tensor) -> Tensor:
        """Return the tissue fractions of the tokens' cells, shape (B, T, 8, C)."""
        logits = self.stem(self.patches.box(t1w_bijk), self.coordinates_xijk)
        return self.patches.pool(logits.softmax(dim=1))

    def read_age(self, cells_btkc: Tensor, routing: Routing | None = None) -> ModelOutput:
        """Predict ages from the tissue fractions of the tokens' cells.

        Parameters
        ----------
        cells_btkc : Tensor
            As `tissue_cells` returns them.
        routing : Routing, optional
            As in `forward`.

        Returns
        -------
        ModelOutput
            As from `forward`.
        """
        fractions_btc = cells_btkc.mean(dim=2)
        content = ((cells_btkc - self.location_tkc) / self.spread_tkc).flatten(2)
        x_btd = self.embed(content)
        u_edr, v_edr = self.experts.bases()
        z_bter = torch.einsum("btd,edr->bter", x_btd, v_edr)
        if routing is None:
            routing = self._route(x_btd, z_bter, v_edr, fractions_btc)
        says_bte = self.experts(z_bter, u_edr)
        weights_bte = self._drop_tokens(routing.weights_bte)
        contributions = self.scale * weights_bte * says_bte / says_bte.shape[1]
        age_b = self.baseline + contributions.sum(dim=(1, 2))
        return ModelOutput(age_b, self.baseline, contributions, routing, fractions_btc)

    def _route(
        self, x_btd: Tensor, z_bter: Tensor, v_edr: Tensor, fractions_btc: Tensor
    ) -> Routing:
        # Uncentred, the part that all tokens share decides every cosine.
        context = torch.einsum("btd,edr->bter", self.context(x_btd), v_edr)
        centred = [y - y.mean(dim=1, keepdim=True) for y in (z_bter, context)]
        region_bte = fractions_btc @ self.region_ec.T
        routing: Routing = self.router(*centred, region_bte)
        return routing

    def _drop_tokens(self, weights_bte: Tensor) -> Tensor:
        """Silence a share of the tokens in training, the others raised to make up for them."""
        keep = functional.dropout(
            torch.ones_like(weights_bte[..., :1]), self.config.token_dropout, self.training
        )
        return weights_bte * keep

    @torch.no_grad()
    def calibrate(self, cells_ntkc: Tensor, ages_n: Tensor, spread_floor: float) -> None:
        """Take content and age of the training scans as the origin and unit of both.

        Parameters
        ----------
        cells_ntkc : Tensor
            Tissue cells of the unchanged scans.
        ages_n : Tensor
            Their ages in years.
        spread_floor : float
            Added in quadrature to the standard deviation of each tissue fraction.
        """
        self.location_tkc.copy_(cells_ntkc.mean(dim=0))
        self.spread_tkc.copy_((cells_ntkc.var(dim=0) + spread_floor**2).sqrt())
        self.baseline.copy_(ages_n.mean())
        self.scale.copy_(ages_n.std())

    def auxiliary_loss(self, _: ModelOutput) -> Tensor:
        """Return what training adds to the error in years: no balancing, ever."""
        return self.scale * self.experts.penalty()

    def after_step(self, output: ModelOutput) -> None:
        """Do what follows an optimiser step: let the selection bias follow the load."""
        self.router.follow_load(output.routing.selected_bte)

    @torch.no_grad()
    def permute_experts(self, order: Tensor) -> None:
        """Rename the free experts: expert e becomes what `order[e]` was; ages do not change.

        Parameters
        ----------
        order : Tensor of int, shape (E,)
            A permutation that leaves the regional experts where they are.
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
            experts.expert_readout_ed,
        ):
            parameter.copy_(parameter[order])
        self.router.bias_e.copy_(self.router.bias_e[order])
