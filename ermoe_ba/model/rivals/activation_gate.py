"""Autonomy of experts: each expert judges by its own activation whether a token is for it.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank.
"""

from torch import Tensor

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import Gate, routing_of, top_selected


class ActivationGate(Gate):
    """The k experts of the largest activation norm are taken, weighed by a softmax of the norms.

    Lv 2025 (arXiv 2501.13074): the norm is that of the expert's first, low-rank product. There is
    no router, and nothing to learn beside the experts.

    Parameters
    ----------
    top_k : int
        Experts a token.
    """

    needs_context = False

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k

    def forward(self, _: Tensor, z_bter: Tensor) -> Routing:
        """Route by the length of each expert's own output.

        Parameters
        ----------
        _ : Tensor
            Tokens with context, which this gate does not look at.
        z_bter : Tensor
            As for `Gate.forward`.

        Returns
        -------
        Routing
            Weights sum to 1.
        """
        norm_bte = z_bter.norm(dim=-1)
        selected = top_selected(norm_bte, self.top_k)
        weights = norm_bte.masked_fill(~selected, -float("inf")).softmax(dim=-1)
        return routing_of(norm_bte, weights, selected)
