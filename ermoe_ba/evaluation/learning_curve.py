"""How the error falls with the number of people that a model learns from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ermoe_ba.errors import UsageError
from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.space import Array


def learning_curve(runs: Sequence[OutOfFold]) -> list[dict[str, Any]]:
    """Compare cross-validations of one recipe over cohorts of several sizes.

    Parameters
    ----------
    runs : sequence of OutOfFold
        With folds of their own, from which the numbers of people trained on follow.

    Returns
    -------
    list of dict
        By rising size: ``num_train`` (people outside a fold, mean over folds), ``num_participants``
        and, with intervals, ``mae`` over all people of the run and ``mae_common`` over those whom
        all runs tested, which is the fairer comparison (years; None where there are none).

    Raises
    ------
    UsageError
        If a run has no folds.
    """
    if not all(rows.folds_given for rows in runs):
        raise UsageError(
            "A learning curve compares cross-validations: the predictions of each must have a "
            "column fold with two folds at least; found some without."
        )
    common = set(runs[0].participants)
    for rows in runs[1:]:
        common &= set(rows.participants)
    points = []
    for rows in runs:
        shared = np.isin(rows.participants, sorted(common))
        points.append(
            {
                "num_train": _num_train(rows),
                "num_participants": rows.num_participants,
                "mae": _mae(rows, np.ones(len(shared), dtype=bool)),
                "mae_common": _mae(rows, shared) if shared.any() else None,
            }
        )
    return sorted(points, key=lambda point: point["num_train"])


def _num_train(rows: OutOfFold) -> float:
    everybody = rows.num_participants
    folds = [rows.participants[rows.folds == f] for f in range(len(rows.fold_names))]
    return float(np.mean([everybody - len(np.unique(fold)) for fold in folds]))


def _mae(rows: OutOfFold, chosen: Array) -> Any:
    sizes = np.abs(rows.gap[chosen])
    return estimates(
        lambda weights_bn: {"mae": weights_bn @ sizes / weights_bn.sum(axis=-1)},
        rows.participants[chosen],
    )["mae"]
