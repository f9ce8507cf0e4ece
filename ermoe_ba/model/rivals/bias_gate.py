"""Balancing without a loss: a bias that chooses and does not weigh.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import Gate, routing_of, top_selected


class BiasGate(Gate):
    """Sigmoid affinities, of which the top k after adding a bias are taken.

    Wang 2024 (arXiv 2408.15664) and DeepSeek-V3 (arXiv 2412.19437): the bias enters the choice
    alone; weights are the plain affinities of the selected, normalised to sum 1. After each step
    the bias of experts below the mean load rises by a fixed amount, that of the others falls.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E and k.
    """

    # The papers' update rate.
    STEP = 0.001

    def __init__(self, hidden_size: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.logits = nn.Linear(hidden_size, num_experts, bias=False)
        self.register_buffer("bias_e", torch.zeros(num_experts))
        self.bias_e: Tensor

    def forward(self, h_btd: Tensor, _: Tensor) -> Routing:
        """Route by the sigmoids of a linear map.

        Parameters
        ----------
        h_btd : Tensor
            As for `Gate.forward`.
        _ : Tensor
            Tokens in the experts' own terms, which this gate does not look at.

        Returns
        -------
        Routing
            As from `select`.
        """
        return self.select(self.logits(h_btd).sigmoid())

    def select(self, affinity_bte: Tensor) -> Routing:
        """Choose and weigh by given affinities.

        Parameters
        ----------
        affinity_bte : Tensor
            Affinities, 0 to 1.

        Returns
        -------
        Routing
            Weights sum to 1; the bias has no part in them.
        """
        selected = top_selected(affinity_bte + self.bias_e, self.top_k)
        taken = affinity_bte * selected
        return routing_of(affinity_bte, taken / taken.sum(dim=-1, keepdim=True), selected)

    @torch.no_grad()
    def after_step(self, routing: Routing) -> None:
        """Move the bias one step towards even load.

        Parameters
        ----------
        routing : Routing
            Of the scans of the step.
        """
        load = routing.selected_bte.float().mean(dim=(0, 1))
        self.bias_e += self.STEP * torch.sign(load.mean() - load)
