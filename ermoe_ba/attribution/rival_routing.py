"""Rival routing: another router on the tokens that a run kept.

Shapes: M test scans, T tokens, E experts.
"""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.errors import UsageError
from ermoe_ba.model.rivals.roster import make_mixture
from ermoe_ba.space import Array
from ermoe_ba.training.age import train_age
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.run_folder import SPLITS, read_run_table


def rival_routing(run: Path, recipe: Recipe, router: str, fold: int, seed: int) -> Array:
    """Train a mixture with another router on one fold of a run, and route the fold's test scans.

    Parameters
    ----------
    run : Path
        A finished run of `cross-validate`, with what it kept.
    recipe : Recipe
        The run's own.
    router : str
        One of `ermoe_ba.model.rivals.roster.ROUTERS`.
    fold : int
        Whose test scans; the network is trained on the others.
    seed : int
        Of weights and of everything that is drawn in training.

    Returns
    -------
    ndarray, shape (M, T, E)
        Routing weights, in the order of the fold's table of predictions.

    Raises
    ------
    UsageError
        If the run's tables do not fit what it kept, or as from `place_regions`.
    """
    tables = [read_run_table(path) for path in sorted(run.glob("fold-*_predictions.tsv"))]
    ages = pd.concat(tables).set_index("participant_id")["chronological_age"]
    splits = read_run_table(run / SPLITS)
    train = splits.loc[splits["fold"] != fold, "participant_id"]
    kept = load_file(run / "kept" / f"fold-{fold}_described.safetensors")
    if len(train) != len(kept["train"]) or not set(train) <= set(ages.index):
        raise UsageError(
            f"{run}: splits.tsv names {len(train)} training scans of fold {fold}, of which each "
            f"must have an age and a description; found {len(kept['train'])} descriptions. Run "
            "`ermoe-ba cross-validate` on the same folder again."
        )
    torch.manual_seed(seed)
    tokens = place_regions(token_grid(recipe.model), recipe.model)
    network = make_mixture(router, recipe.model, tokens)
    # A copy: torch warns of arrays that pandas holds read-only.
    train_ages = ages.loc[train].to_numpy(dtype=float, copy=True)
    train_age(network, kept["train"], train_ages, recipe.age, seed)
    with torch.no_grad():
        output = network.read_age(kept["test"][:, 0].float())
    return output.routing.weights_bte.numpy()
