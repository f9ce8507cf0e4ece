"""How near predicted ages come to chronological ones, over all rows and within groups."""

from typing import Any

import numpy as np

from ermoe_ba.evaluation.bootstrap import MIN_PARTICIPANTS, Figures, estimates
from ermoe_ba.evaluation.out_of_fold import OutOfFold
from ermoe_ba.metrics import age_figures
from ermoe_ba.space import Array

# Of a group; correlation and slope of a narrow range of ages would say little but its width.
GROUP_FIGURES = ("mae", "rmse", "bias")


def accuracy(rows: OutOfFold) -> dict[str, Any]:
    """Return uncorrected accuracy with intervals; rows of one person share that person's weight.

    Parameters
    ----------
    rows : OutOfFold
        Predictions.

    Returns
    -------
    dict
        ``overall`` (the figures of `ermoe_ba.metrics.age_figures`), ``by_decade``, ``by_sex`` and
        ``by_site`` (lists of groups; only where known) and ``worst_decade``: that of the largest
        MAE among those of at least five participants, or among all where none has five. In a group,
        everybody who is in it counts alike.
    """
    everything = np.ones(len(rows.gap), dtype=bool)
    found: dict[str, Any] = {
        "overall": estimates(_figures(rows, everything), rows.participants),
        "by_decade": [_group(rows, str(d), rows.decades == d) for d in np.unique(rows.decades)],
    }
    for name, values in rows.groups.items():
        found[f"by_{name}"] = [_group(rows, str(v), values == v) for v in np.unique(values)]
    large = [g for g in found["by_decade"] if g["num_participants"] >= MIN_PARTICIPANTS]
    worst = max(large or found["by_decade"], key=lambda group: float(group["mae"]["value"]))
    return {**found, "worst_decade": worst["group"]}


def _figures(rows: OutOfFold, chosen: Array) -> Figures:
    ages, predicted = rows.chronological[chosen], rows.predicted[chosen]
    return lambda weights_bn: age_figures(ages, predicted, weights_bn)


def _group(rows: OutOfFold, name: str, chosen: Array) -> dict[str, Any]:
    whose = rows.participants[chosen]
    figures = estimates(_figures(rows, chosen), whose)
    return {
        "group": name,
        "num_rows": int(chosen.sum()),
        "num_participants": len(np.unique(whose)),
        **{figure: figures[figure] for figure in GROUP_FIGURES},
    }
