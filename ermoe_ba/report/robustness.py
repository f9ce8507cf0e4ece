"""How far ages move when heads are changed: one line a condition, one point a head."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ermoe_ba.report.drawing import ACCENT, FAINT, OLDER, style, to_png


def draw_robustness(
    ages: pd.DataFrame, conditions: pd.DataFrame, reference: str, tolerance: float
) -> bytes:
    """Draw the differences from the heads as they are.

    Parameters
    ----------
    ages : DataFrame
        Predicted ages in years; one row a head, one column a condition.
    conditions : DataFrame
        Columns ``condition`` and ``lossless``, in the order from above to below.
    reference : str
        Column of the heads as they are.
    tolerance : float
        Years that changes which lose nothing may cost; drawn as a band.

    Returns
    -------
    bytes
        PNG.
    """
    with style():
        figure = Figure(figsize=(8.0, 1.0 + 0.32 * len(conditions)), dpi=120, layout="constrained")
        ax = figure.add_subplot()
        ax.axvline(0, color=FAINT, linewidth=1)
        ax.axvspan(-tolerance, tolerance, color=FAINT, alpha=0.3, linewidth=0)
        for place, row in enumerate(conditions.itertuples(index=False)):
            moved = (ages[str(row.condition)] - ages[reference]).to_numpy(dtype=float)
            # Points of equal value are set apart by a fixed step, so that each can be seen.
            level = place + np.linspace(-0.22, 0.22, len(moved))
            ax.scatter(moved, level, s=14, color=ACCENT if row.lossless else OLDER, linewidths=0)
        ax.set_yticks(range(len(conditions)), [str(name) for name in conditions["condition"]])
        ax.invert_yaxis()
        # Lossless changes lie at 0, lossy ones years away: near 0 linear, beyond logarithmic.
        ax.set_xscale("symlog", linthresh=max(tolerance, 1e-6))
        ax.set_xlabel("change of predicted age (years)")
        return to_png(figure)
