"""Scans in random order, each as one of its variants; some of them set aside if need be.

Shapes: N scans, V variants of each.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit
from torch import Tensor

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array
from ermoe_ba.training.batch import Batch


class ScanBatches:
    """Every scan once an epoch, in an order and as variants that are drawn at once for all epochs.

    Parameters
    ----------
    inputs_nv : Tensor, shape (N, V, ...)
        What the network sees.
    targets_n : Tensor, shape (N, ...)
        What is to be learnt of each scan; a batch holds it after the inputs.
    participants : sequence of str
        Whose scans they are.
    num_epochs, batch_size : int
        Passes over the scans, in batches of that many.
    seed : int
        Of order and variants.
    mixup : float, optional
        Each scan and its target are mixed with those of another of its batch, ``x = l x_1 + (1 - l)
        x_2`` with ``l`` from ``Beta(mixup, mixup)`` (Zhang 2018, arXiv 1710.09412); 0, the default,
        leaves them as they are.
    """

    def __init__(
        self,
        inputs_nv: Tensor,
        targets_n: Tensor,
        participants: Sequence[str],
        *,
        num_epochs: int,
        batch_size: int,
        seed: int,
        mixup: float = 0.0,
    ) -> None:
        self.inputs, self.targets, self.participants = inputs_nv, targets_n, participants
        num_scans, num_variants = inputs_nv.shape[:2]
        random = np.random.default_rng(seed)
        self.drawn: list[tuple[Array, Array]] = []
        # By step: each scan's other within the batch, and its own share.
        self.mixed: list[tuple[Array, Array]] = []
        for _ in range(num_epochs):
            order = random.permutation(num_scans)
            for start in range(0, num_scans, batch_size):
                chosen = order[start : start + batch_size]
                self.drawn.append((chosen, random.integers(num_variants, size=len(chosen))))
                if mixup:
                    others = random.permutation(len(chosen))
                    self.mixed.append((others, random.beta(mixup, mixup, size=len(chosen))))
        self.steps_per_epoch = len(self.drawn) // num_epochs

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, step: int) -> Batch:
        chosen, variants = (torch.as_tensor(drawn) for drawn in self.drawn[step])
        tensors: tuple[Tensor, ...] = (
            self.inputs[chosen, variants].float(),
            self.targets[chosen],
        )
        if self.mixed:
            others, shares = (torch.as_tensor(drawn) for drawn in self.mixed[step])
            tensors = tuple(
                torch.lerp(one[others], one, shares.to(one.dtype).view(-1, *[1] * (one.ndim - 1)))
                for one in tensors
            )
        return Batch(tensors, tuple(self.participants[scan] for scan in chosen.tolist()))


def set_aside(participants: Sequence[str], share: float, seed: int) -> tuple[Array, Array]:
    """Choose scans to learn from, and scans to set aside for validation.

    Parameters
    ----------
    participants : sequence of str
        Whose each of N scans is; a participant's scans stay together.
    share : float
        Of the participants to set aside, at least 0 and less than 1; 0 sets none aside.
    seed : int
        Of the choice.

    Returns
    -------
    tuple of ndarray of int
        Numbers of the scans to learn from, and of those set aside; both in ascending order.

    Raises
    ------
    UsageError
        If there are too few participants to leave some on either side.
    """
    scans = np.arange(len(participants))
    if share == 0:
        return scans, scans[:0]
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    try:
        ((learn, aside),) = splitter.split(scans, groups=list(participants))
    except ValueError as error:
        raise UsageError(
            f"validation_share = {share} of {len(set(participants))} participants must leave some "
            f"on either side ({error})."
        ) from error
    return np.sort(learn), np.sort(aside)
