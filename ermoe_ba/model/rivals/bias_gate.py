"""Balancing without a loss: a bias that chooses and does not weigh.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import LinearGate, routing_of, top_selected


class BiasGate(LinearGate):
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
        super().__init__(hidden_size, num_experts, top_k)
        self.register_buffer("bias_e", torch.zeros(num_experts))
        self.bias_e: Tensor

    def select(self, logits_bte: Tensor) -> Routing:
        """Choose and weigh by the sigmoids of given logits.

        Parameters
        ----------
        logits_bte : Tensor
            Logits of the affinities.

        Returns
        -------
        Routing
            Weights sum to 1; the bias has no part in them.
        """
        affinity_bte = logits_bte.sigmoid()
        selected = top_selected(affinity_bte + self.bias_e, self.top_k)
        taken = affinity_bte * selected
        return routing_of(affinity_bte, taken / taken.sum(dim=-1, keepdim=True), selected)

    @torch.no_grad()
    def after_step(self, selected_bte: Tensor) -> None:
        """Move the bias one step towards even load.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """
        load = selected_bte.float().mean(dim=(0, 1))
        self.bias_e += self.STEP * torch.sign(load.mean() - load)
