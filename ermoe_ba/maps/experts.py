"""The label table of a model's experts: what the numbers of a map of winners mean."""

import pandas as pd

from ermoe_ba.model.config import ModelConfig


def expert_labels(config: ModelConfig) -> pd.DataFrame:
    """Return the label table of the winning experts: ``index``, ``name`` and ``kind``.

    The kind is ``regional`` where the expert serves its region by construction, else ``free``.

    Parameters
    ----------
    config : ModelConfig
        Of the model.

    Returns
    -------
    DataFrame
        One row an expert, ``index`` from 1 on: values of the map of winners.
    """
    kinds = ["regional"] * len(config.regions) + ["free"] * config.num_free_experts
    indices = range(1, config.num_experts + 1)
    return pd.DataFrame({"index": indices, "name": config.expert_names, "kind": kinds})
