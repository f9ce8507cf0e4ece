"""What the network returns: everything it knows, by value.

Shapes: B scans, T tokens, E experts, C tissue classes.
"""

from dataclasses import dataclass

from torch import Tensor

from ermoe_ba.model.load import Load


@dataclass(frozen=True)
class Routing:
    """Which experts serve which token.

    Parameters
    ----------
    scores_bte : Tensor
        Eigenbasis scores, cosines from -1 to 1.
    weights_bte : Tensor
        Routing weights, 0 for experts not selected; they sum to 1 over the experts, or to 0 where
        nobody serves a token.
    selected_bte : Tensor of bool
        Selected experts, 1 to top_k of them for each token; none where nobody serves it.
    fallback_bt : Tensor of bool
        Tokens no expert was eligible for, served by a free expert all the same, unless
        `ModelConfig.free_fallback` is off.
    """

    scores_bte: Tensor
    weights_bte: Tensor
    selected_bte: Tensor
    fallback_bt: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """The predicted age and the shares it is the sum of.

    Parameters
    ----------
    age_b : Tensor
        Predicted age in years: baseline plus all contributions.
    baseline : Tensor, scalar
        Age in years before any expert has spoken. Of a rival with a path around its experts, shape
        (B,): the age that this path alone gives.
    contributions_bte : Tensor
        Years that each token adds through each expert; routing weight included.
    routing : Routing
        Scores, weights and selection.
    fractions_btc : Tensor
        Share of each token's volume in each tissue class, as the stem sees it.
    """

    age_b: Tensor
    baseline: Tensor
    contributions_bte: Tensor
    routing: Routing
    fractions_btc: Tensor

    @property
    def metrics(self) -> Load:
        """What is measured of the routing as it was taken: load, its evenness, fallback."""
        return Load.of(self.routing.selected_bte, self.routing.fallback_bt)
