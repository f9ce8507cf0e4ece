"""From the results on one scan to the content of its report, whether they are new or read back."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ermoe_ba.assets import template
from ermoe_ba.atlas import Atlas
from ermoe_ba.model_card import ModelCard
from ermoe_ba.space import Volume

if TYPE_CHECKING:
    from ermoe_ba.report import ReportContent

LIMITS = (
    "Research use only; this is no diagnosis and no medical device.",
    "Trained on 140 healthy adults of 20 to 82 years from one 3 T scanner; other ages, other "
    "scanners and patients were not part of the training.",
    "Predicted ages of the young tend to be too high and of the old too low; no correction is "
    "applied.",
)


def report_content(
    name: str,
    result: dict[str, Any],
    card: ModelCard,
    atlas: Atlas,
    regions: pd.DataFrame,
    *,
    t1w: Volume,
    brain_mask: Volume,
    experts: Volume,
    contributions: Volume,
) -> "ReportContent":
    """Gather what a report shows.

    Parameters
    ----------
    name : str
        What the scan is called.
    result : dict
        What ``prediction.json`` holds of it.
    card : ModelCard
        Of the model that predicted.
    atlas : Atlas
        Of the region table.
    regions : DataFrame
        The region table.
    t1w, brain_mask, experts, contributions : Volume
        The scan's maps, as written beside the JSON.

    Returns
    -------
    ReportContent
        Equal for equal arguments, so that a report can be made again from files.

    Raises
    ------
    KeyError
        If `result` lacks a part.
    ValueError
        If the parts do not belong together.
    """
    # A slow import, for those alone who want a report.
    from ermoe_ba.report import ReportContent

    return ReportContent(
        name=name,
        row=result,
        t1w=t1w,
        brain_mask=brain_mask,
        template=template("desc-brain_T1w"),
        atlas=atlas.dseg,
        experts=experts,
        expert_names=card.model.expert_names,
        contributions=contributions,
        baseline_years=result["baseline_years"],
        expert_years=result["expert_years"],
        expert_load=result["expert_load"],
        model_mae=card.mae_with_all_experts,
        mae_without_expert=card.mae_without_expert,
        mae_interfered=card.mae_interfered,
        regions=regions,
        training_ages=np.array(card.ages),
        training_predictions=np.array(card.predictions),
        figures=result["quality"],
        provenance=result["provenance"],
        limits=LIMITS,
        coverage=card.coverage,
    )
