"""When to stop: the weights that did best on a validation part, and how long ago that was."""

import math
from typing import Any

from torch import Tensor, nn


class EarlyStopping:
    """Remember the best weights, and say when nothing better came for long.

    Parameters
    ----------
    patience : int
        Epochs without a lower score after which training stops; 0 never stops and remembers
        nothing.

    Attributes
    ----------
    best_weights : dict of Tensor
        Parameters of the best epoch by name; empty before the first.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_score = math.inf
        self.epochs_since = 0
        self.best_weights: dict[str, Tensor] = {}

    def see(self, score: float, network: nn.Module) -> None:
        """Take note of an epoch.

        Parameters
        ----------
        score : float
            On the validation part; lower is better.
        network : Module
            With the weights that got it.
        """
        if self.patience == 0:
            return
        self.epochs_since += 1
        if score < self.best_score:
            self.best_score, self.epochs_since = score, 0
            self.best_weights = {
                name: weight.detach().clone() for name, weight in network.named_parameters()
            }

    @property
    def is_due(self) -> bool:
        """Whether to stop."""
        return 0 < self.patience <= self.epochs_since

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        seen = math.isfinite(self.best_score)
        return {
            "best_score": self.best_score if seen else None,
            "epochs_since": self.epochs_since,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` returned.

        Parameters
        ----------
        state : dict
            Best score, epochs since, and best weights.
        """
        best = state["best_score"]
        self.best_score = math.inf if best is None else best
        self.epochs_since = state["epochs_since"]
        self.best_weights = dict(state["best_weights"])
