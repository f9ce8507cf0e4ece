"""The split of participants into folds."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from ermoe_ba.cohort import Participants


def split_folds(participants: Participants, num_folds: int, seed: int) -> pd.Series:
    """Assign each participant to one fold, balanced in age.

    Parameters
    ----------
    participants : Participants
        With known ages.
    num_folds : int
        At least 2.
    seed : int
        Of the shuffle.

    Returns
    -------
    Series
        Fold 0 to `num_folds` - 1 by participant_id, named ``fold``.
    """
    ages = participants.table["age"]
    # As many age bins as keep at least one participant per fold in each.
    # Of ranks, not of ages: edges between many people of one age would coincide.
    bins = pd.qcut(ages.rank(method="first"), max(1, min(10, len(ages) // num_folds)), labels=False)
    splitter = StratifiedKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    folds = np.zeros(len(ages), dtype=int)
    for fold, (_, test) in enumerate(splitter.split(ages, bins)):
        folds[test] = fold
    return pd.Series(folds, index=ages.index, name="fold")
