"""Routers of three experts and scans of few tokens, small enough to be worked by hand."""

from typing import Any

import torch
from torch import Tensor

from ermoe_ba.model.routing import EigenbasisRouter

# Low enough for every expert to be eligible, whatever the scores.
NO_THRESHOLD = -100.0


def make_router(**changes: Any) -> EigenbasisRouter:
    """One regional expert and two free ones."""
    given_: dict[str, Any] = {
        "num_regional": 1,
        "num_free": 2,
        "top_k": 2,
        "threshold": -0.5,
        "region_min_fraction": 0.25,
        "temperature": 0.5,
        "bias_step": 0.01,
    }
    return EigenbasisRouter(**{**given_, **changes})


def all_free(**changes: Any) -> EigenbasisRouter:
    return make_router(**{"num_regional": 0, "num_free": 3, "threshold": NO_THRESHOLD, **changes})


def tokens_of(*rows: tuple[float, ...]) -> Tensor:
    """One scan with a row a token; a token without regional experts has the empty row."""
    return torch.tensor([rows])
