"""Expert choice: experts take tokens, instead of tokens taking experts.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import Gate, routing_of


class ExpertChoiceGate(Gate):
    """Each expert takes the tokens that give it most; every expert takes equally many.

    Zhou 2022 (arXiv 2202.09368): with S the softmax over experts, expert e takes the
    ``round(k T / E)`` tokens of highest S_te, and S_te is the weight. A token may be served by
    any number of experts, or by none. Tokens compete within their scan, so that a scan's age does
    not depend on the others of its batch.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E, and the mean number of experts a token (the paper's capacity factor).
    """

    def __init__(self, hidden_size: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.logits = nn.Linear(hidden_size, num_experts, bias=False)

    def forward(self, h_btd: Tensor, _: Tensor) -> Routing:
        """Route by the softmax of a linear map.

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
        return self.select(self.logits(h_btd).softmax(dim=-1))

    def select(self, share_bte: Tensor) -> Routing:
        """Let the experts choose by given probabilities.

        Parameters
        ----------
        share_bte : Tensor
            Probabilities that sum to 1 over the experts.

        Returns
        -------
        Routing
            Each expert has ``k T / E`` tokens of a scan, rounded, at least one; a token may have
            any number of experts. Weights are the probabilities.
        """
        num_tokens, num_experts = share_bte.shape[1:]
        capacity = max(1, round(self.top_k * num_tokens / num_experts))
        order = share_bte.detach().sort(dim=1, descending=True, stable=True).indices
        nobody = torch.zeros_like(share_bte, dtype=torch.bool)
        return routing_of(share_bte, share_bte, nobody.scatter(1, order[:, :capacity], True))
