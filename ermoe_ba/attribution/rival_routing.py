"""Rival routing: another router on the tokens that a run kept.

Shapes: M test scans, T tokens, E experts.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.errors import UsageError
from ermoe_ba.model.rivals.roster import make_mixture
from ermoe_ba.space import Array
from ermoe_ba.training.age import train_age
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.run_folder import SCANS, SPLITS, read_run_table


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
    scans = read_run_table(run / SCANS)
    fold_of = read_run_table(run / SPLITS).set_index("participant_id")["fold"]
    fold_n = scans["participant_id"].map(fold_of)
    # The order of the scans is that of their descriptions; a given table of folds has its own.
    train = scans[fold_n.notna() & (fold_n != fold)]
    kept = load_file(run / "kept" / f"fold-{fold}_described.safetensors")
    if len(train) != len(kept["train"]) or fold_n.isna().any():
        raise UsageError(
            f"{run}: scans.tsv must name the scans that were described, each of somebody with a "
            f"fold in splits.tsv; found {len(train)} training scans of fold {fold}, "
            f"{len(kept['train'])} descriptions and {fold_n.isna().sum()} scans without a fold. "
            "Run `ermoe-ba cross-validate` on the same folder again."
        )
    torch.manual_seed(seed)
    tokens = place_regions(token_grid(recipe.model), recipe.model)
    network = make_mixture(router, recipe.model, tokens)
    # A copy: torch warns of arrays that pandas holds read-only.
    ages_n = train["chronological_age"].to_numpy(dtype=float, copy=True)
    people = train["participant_id"].tolist()
    train_age(network, kept["train"], ages_n, recipe.age, seed, participants=people)
    with torch.no_grad():
        output = network.read_age(kept["test"][:, 0].float())
    return output.routing.weights_bte.numpy()
