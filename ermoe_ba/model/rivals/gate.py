"""A gate: a router that is no part of the experts it routes to.

Shapes: B scans, T tokens, D hidden_size, E experts, R rank.
"""

import torch
from torch import Tensor, nn

from ermoe_ba.model.output import Routing


class Gate(nn.Module):
    """What the gates have in common; each defines `forward`."""

    # Whether it looks at `h_btd`; else no context is gathered for it.
    needs_context = True

    def forward(self, h_btd: Tensor, z_bter: Tensor) -> Routing:
        """Route.

        Parameters
        ----------
        h_btd : Tensor
            Tokens, the code of their place included, with their context, as after a block of
            attention.
        z_bter : Tensor
            Tokens in the experts' own terms, ``diag(s_e) V_e^T x + m_e``, the code of their place
            included.

        Returns
        -------
        Routing
            Weights as the gate's paper defines them: they need not sum to 1.
        """
        raise NotImplementedError

    def auxiliary_loss(self, routing: Routing) -> Tensor:
        """Return what the gate adds to a loss of order one; nothing unless it says otherwise.

        Parameters
        ----------
        routing : Routing
            Of the scans of the step.

        Returns
        -------
        Tensor, shape ()
            0 here.
        """
        return routing.weights_bte.new_zeros(())

    def after_step(self, selected_bte: Tensor) -> None:
        """Do what follows an optimiser step; nothing unless the gate says otherwise.

        Parameters
        ----------
        selected_bte : Tensor of bool
            Which experts served which tokens in the step.
        """


class LinearGate(Gate):
    """A gate whose logits are a linear map of the token; each defines `select`.

    Parameters
    ----------
    hidden_size, num_experts, top_k : int
        D, E and k.
    """

    def __init__(self, hidden_size: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.logits = nn.Linear(hidden_size, num_experts, bias=False)

    def forward(self, h_btd: Tensor, _: Tensor) -> Routing:
        """Route by the logits.

        Parameters
        ----------
        h_btd : Tensor
            As for `Gate.forward`.
        _ : Tensor
            Tokens in the experts' own terms, which these gates do not look at.

        Returns
        -------
        Routing
            As from `select`.
        """
        return self.select(self.logits(h_btd))

    def select(self, logits_bte: Tensor) -> Routing:
        """Choose and weigh by given logits; each gate's own.

        Parameters
        ----------
        logits_bte : Tensor
            One of each token for each expert.

        Returns
        -------
        Routing
            As from `Gate.forward`.
        """
        raise NotImplementedError


def top_selected(scores_bte: Tensor, top_k: int) -> Tensor:
    """Return where each token's highest scores are, as bool; of equal ones the first.

    Parameters
    ----------
    scores_bte : Tensor
        Scores.
    top_k : int
        How many experts a token takes.

    Returns
    -------
    Tensor of bool, shape (B, T, E)
        `top_k` true values a token.
    """
    # A stable sort: `topk` leaves open which of equals it takes.
    order = scores_bte.detach().sort(dim=-1, descending=True, stable=True).indices
    nobody = torch.zeros_like(scores_bte, dtype=torch.bool)
    return nobody.scatter(-1, order[..., :top_k], True)


def routing_of(scores_bte: Tensor, weights_bte: Tensor, selected_bte: Tensor) -> Routing:
    """Return a routing; tokens that no expert serves count as fallback.

    Parameters
    ----------
    scores_bte, weights_bte : Tensor
        Scores, and weights of which those not selected are set to 0.
    selected_bte : Tensor of bool
        Selected experts.

    Returns
    -------
    Routing
        As the network returns it.
    """
    weights = weights_bte * selected_bte
    return Routing(scores_bte, weights, selected_bte, ~selected_bte.any(dim=-1))
