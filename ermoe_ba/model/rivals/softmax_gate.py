"""Softmax top-k, with or without a load-balancing loss.

Shapes: B scans, T tokens, D hidden_size, E experts.
"""

from torch import Tensor

from ermoe_ba.model.output import Routing
from ermoe_ba.model.rivals.gate import LinearGate, routing_of, top_selected


class SoftmaxGate(LinearGate):
    """Softmax over all experts, of which the top k keep their share.

    Switch Transformer (Fedus 2022, arXiv 2101.03961) with k = 1, V-MoE (Riquelme 2021, arXiv
    2106.05974) with more. The balancing loss is Switch's, ``alpha E sum_e f_e P_e``: f_e is the
    share of the selections that fall on expert e, P_e its mean probability; it is alpha where both
    are even. V-MoE's noise on the logits is left out.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E and k.
    balance : float
        Alpha; 0 for no balancing loss.
    """

    def __init__(self, hidden_size: int, num_experts: int, top_k: int, balance: float) -> None:
        super().__init__(hidden_size, num_experts, top_k)
        self.balance = balance

    def select(self, logits_bte: Tensor) -> Routing:
        """Choose by the softmax of given logits.

        Parameters
        ----------
        logits_bte : Tensor
            Their softmax over the experts gives the probabilities.

        Returns
        -------
        Routing
            Weights are the probabilities of the k highest.
        """
        share_bte = logits_bte.softmax(dim=-1)
        return routing_of(share_bte, share_bte, top_selected(share_bte, self.top_k))

    def auxiliary_loss(self, routing: Routing) -> Tensor:
        """Return the balancing loss.

        Parameters
        ----------
        routing : Routing
            Of the scans of the step.

        Returns
        -------
        Tensor, shape ()
            At least 0.
        """
        num_experts = routing.scores_bte.shape[-1]
        load_e = routing.selected_bte.float().mean(dim=(0, 1)) / self.top_k
        share_e = routing.scores_bte.mean(dim=(0, 1))
        return self.balance * num_experts * (load_e * share_e).sum()
