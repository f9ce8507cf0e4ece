"""Expert choice: experts take tokens, instead of tokens taking experts.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

import torch
from torch import Tensor

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import LinearGate, routing_of


class ExpertChoiceGate(LinearGate):
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

    def select(self, logits_bte: Tensor) -> Routing:
        """Let the experts choose by the softmax of given logits.

        Parameters
        ----------
        logits_bte : Tensor
            Their softmax over the experts gives the probabilities.

        Returns
        -------
        Routing
            Each expert has ``k T / E`` tokens of a scan, rounded, at least one; a token may have
            any number of experts. Weights are the probabilities.
        """
        share_bte = logits_bte.softmax(dim=-1)
        num_tokens, num_experts = share_bte.shape[1:]
        capacity = max(1, round(self.top_k * num_tokens / num_experts))
        order = share_bte.detach().sort(dim=1, descending=True, stable=True).indices
        nobody = torch.zeros_like(share_bte, dtype=torch.bool)
        return routing_of(share_bte, share_bte, nobody.scatter(1, order[:, :capacity], True))
