"""Out-of-fold rows that are made up, for figures that are known beforehand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.space import Array

MakeRows = Callable[..., OutOfFold]


@pytest.fixture
def make_rows() -> MakeRows:
    """Rows from ages; by default each its own participant, dealt to folds in turn."""

    def make(
        chronological: Array,
        predicted: Array,
        *,
        participants: Array | None = None,
        folds: Array | None = None,
        num_folds: int = 3,
        groups: dict[str, Array] | None = None,
    ) -> OutOfFold:
        count = len(chronological)
        names = [f"{number:04d}" for number in range(count)]
        folds = np.arange(count) % num_folds if folds is None else folds
        return OutOfFold(
            source=pd.DataFrame(index=range(count)),
            used=np.ones(count, dtype=bool),
            left_out={},
            participants=np.array(names if participants is None else participants),
            folds=folds,
            fold_names=tuple(str(fold) for fold in np.unique(folds)),
            folds_given=True,
            chronological=np.asarray(chronological, dtype=float),
            predicted=np.asarray(predicted, dtype=float),
            groups=groups or {},
            given_interval=None,
        )

    return make
