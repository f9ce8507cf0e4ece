"""ReLU routing: as many experts as a token has positive logits.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import LinearGate, routing_of


class ReluGate(LinearGate):
    """Weights are ReLU outputs; a penalty that steers itself keeps k of E positive on average.

    ReMoE (Wang 2025, arXiv 2412.14711): the penalty is the mean over tokens of ``sum_e f_e R_te``,
    R the ReLU outputs and f_e the load of expert e over the even load, times a coefficient that is
    multiplied or divided by 1.2 after each step as more or fewer than k / E are positive.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E, and the mean number of experts a token aimed at.
    """

    # The paper's first coefficient and its growth a step.
    FIRST_COEFFICIENT, GROWTH = 1e-8, 1.2

    def __init__(self, hidden_size: int, num_experts: int, top_k: int) -> None:
        super().__init__(hidden_size, num_experts, top_k)
        self.target = top_k / num_experts
        self.register_buffer("coefficient", torch.tensor(self.FIRST_COEFFICIENT))
        self.coefficient: Tensor

    def select(self, logits_bte: Tensor) -> Routing:
        """Weigh by given logits.

        Parameters
        ----------
        logits_bte : Tensor
            Logits.

        Returns
        -------
        Routing
            Weights are the positive logits; a token may have no expert.
        """
        return routing_of(logits_bte, functional.relu(logits_bte), logits_bte.detach() > 0)

    def auxiliary_loss(self, routing: Routing) -> Tensor:
        """Return the penalty.

        Parameters
        ----------
        routing : Routing
            Of the scans of the step.

        Returns
        -------
        Tensor, shape ()
            At least 0.
        """
        load_e = routing.selected_bte.float().mean(dim=(0, 1)) / self.target
        return self.coefficient * (load_e * routing.weights_bte).sum(dim=-1).mean()

    @torch.no_grad()
    def after_step(self, selected_bte: Tensor) -> None:
        """Steer the coefficient by the share of positive logits.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """
        excess = selected_bte.float().mean() - self.target
        self.coefficient *= self.GROWTH ** torch.sign(excess)
