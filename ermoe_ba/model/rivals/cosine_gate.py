"""A cosine router in few dimensions.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.softmax_gate import SoftmaxGate


class CosineGate(SoftmaxGate):
    """Cosine of the projected token and an embedding of each expert, over a learned temperature.

    X-MoE (Chi 2022, arXiv 2204.09179): tokens are projected on E / 2 dimensions, which keeps their
    representations from collapsing onto the experts' embeddings; the rest is softmax top-k with the
    balancing loss.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E and k.
    balance : float
        Weight of the balancing loss.
    """

    # Where the learned temperature starts: cosines of -1 and 1 then differ by 4 in log-odds. Ours.
    FIRST_TEMPERATURE = 0.5

    def __init__(self, hidden_size: int, num_experts: int, top_k: int, balance: float) -> None:
        super().__init__(hidden_size, num_experts, top_k, balance)
        # In one dimension a cosine is a sign.
        width = max(2, num_experts // 2)
        self.reduce = nn.Linear(hidden_size, width, bias=False)
        self.logits = nn.Linear(width, num_experts, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(self.FIRST_TEMPERATURE).log())

    def forward(self, h_btd: Tensor, _: Tensor) -> Routing:
        """Route by cosines over a temperature that is learnt.

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
        token = functional.normalize(self.reduce(h_btd), dim=-1)
        expert = functional.normalize(self.logits.weight, dim=-1)
        return self.select(token @ expert.T / self.log_temperature.exp())
