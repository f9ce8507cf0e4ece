"""The network of this project with another router.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank.
"""

from dataclasses import replace

from torch import Tensor

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput, Routing
from ermoe_ba.model.rivals.gate import Gate
from ermoe_ba.tokens import TokenGrid


def free_experts(config: ModelConfig) -> ModelConfig:
    """Return a shape with as many experts, none of them tied to a region.

    Parameters
    ----------
    config : ModelConfig
        Shape with regional experts, or without.

    Returns
    -------
    ModelConfig
        All else as it was.
    """
    return replace(config, regions=(), num_free_experts=config.num_experts)


class GatedBrainAge(ErmoeBrainAge):
    """The same experts and read-out, routed by a gate instead of the eigenbasis score.

    A gate sees what the eigenbasis score sees: tokens, where they lie, and their context. All
    experts are free.

    Parameters
    ----------
    config : ModelConfig
        Shape; regional experts become free ones.
    tokens : TokenGrid
        Where the tokens lie.
    gate : Gate
        Routes.
    orthogonal : str
        As for `ErmoeBrainAge`.
    """

    def __init__(
        self, config: ModelConfig, tokens: TokenGrid, gate: Gate, orthogonal: str = "qr"
    ) -> None:
        super().__init__(free_experts(config), tokens, orthogonal)
        self.gate = gate
        # Gates may look at projections.
        self.by_complement = False
        self.context.requires_grad_(gate.needs_context)

    def _route(
        self, content_btd: Tensor, z_bter: Tensor, v_edr: Tensor, _region_bte: Tensor
    ) -> Routing:
        h_btd = content_btd + self.place_td
        if self.gate.needs_context:
            h_btd = h_btd + self.context(content_btd)
        routing: Routing = self.gate(h_btd, self.experts.within(self._placed(z_bter, v_edr)))
        return routing

    def auxiliary_loss(self, output: ModelOutput) -> Tensor:
        """Return the gate's loss, in the units of the age, and the experts' penalty.

        Parameters
        ----------
        output : ModelOutput
            Of the scans of the step.

        Returns
        -------
        Tensor, shape ()
            In years.
        """
        gate_loss = self.scale * self.gate.auxiliary_loss(output.routing)
        return gate_loss + super().auxiliary_loss(output)

    def after_step(self, selected_bte: Tensor) -> None:
        """Let the gate do what follows an optimiser step.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """
        self.gate.after_step(selected_bte)


class SubspaceBrainAge(ErmoeBrainAge):
    """Experts by how much of a token lies in their subspace: ``|V_e^T x| / |x|``.

    As for the eigenbasis router, the token x is its content plus the code of its place.

    Everything else, regions, threshold, selection bias and temperature, is as in the eigenbasis
    router; context plays no part.

    Parameters
    ----------
    config : ModelConfig
        As for `ErmoeBrainAge`.
    tokens : TokenGrid
        As for `ErmoeBrainAge`.
    orthogonal : str
        As for `ErmoeBrainAge`.
    """

    def __init__(self, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr") -> None:
        super().__init__(config, tokens, orthogonal)
        self.context.requires_grad_(False)
        self.by_complement = False

    def _route(
        self, content_btd: Tensor, z_bter: Tensor, v_edr: Tensor, region_bte: Tensor
    ) -> Routing:
        length = (content_btd + self.place_td).norm(dim=-1, keepdim=True)
        inside = self._placed(z_bter, v_edr).norm(dim=-1)
        # A token of no length lies in no subspace more than in another.
        scores = inside / length.clamp_min(1e-6)
        return self.router.select(scores, region_bte)
