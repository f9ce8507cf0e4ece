"""From trained folds to one model: experts matched, predictions, metrics, card."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ermoe_ba import __version__
from ermoe_ba.checkpoint import load_member, save_member
from ermoe_ba.intervals import conformal_half_width
from ermoe_ba.io import write_json
from ermoe_ba.metrics import age_metrics, mae_by_group, person_shares
from ermoe_ba.model_card import ModelCard, save_card
from ermoe_ba.space import Array
from ermoe_ba.tables import PREDICTIONS, write_table
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.matching import matched_order
from ermoe_ba.training.probe import Probe, probe_routing
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.run_folder import SCANS, RunFolder, read_run_table
from ermoe_ba.training.run_part import Part, fold_part


def assemble(
    recipe: Recipe,
    folder: RunFolder,
    tokens: TokenGrid,
    data_hash: str,
) -> dict[str, Any]:
    """Make the model of a cross-validation all of whose folds are trained.

    The members of the first repeat are the model, and their ages ``predictions.tsv``; of further
    repeats only the error is kept, by repeat.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    folder : RunFolder
        Where the folds lie, and where ``predictions.tsv``, ``metrics.json`` and ``model.json`` go.
    tokens : TokenGrid
        Of the network.
    data_hash : str
        Of the cohort.

    Returns
    -------
    dict
        Out-of-fold metrics, as in ``metrics.json``.
    """
    run = recipe.run
    parts = [fold_part(run, fold) for fold in range(run.num_folds)]
    match_experts(recipe, folder, tokens, parts)
    tables = [read_run_table(folder.predictions(part)) for part in parts]
    table = pd.concat(tables, ignore_index=True)
    table["brain_age_gap"] = table["predicted_age"] - table["chronological_age"]
    write_table(folder.out / PREDICTIONS, table)
    ages = table["chronological_age"].to_numpy()
    predictions = table["predicted_age"].to_numpy()
    people = table["participant_id"].to_numpy()
    metrics: dict[str, Any] = {**age_metrics(ages, predictions, people), **mae_by_group(table)}
    if run.num_repeats > 1:
        metrics["mae_by_repeat"] = [_mae(recipe, folder, r) for r in range(run.num_repeats)]
    # Where a fold tests one person, there is nobody else to be routed as.
    pairs = [p for p in zip(parts, tables, strict=True) if p[1]["participant_id"].nunique() > 1]
    probes = [_probe(recipe, folder, tokens, *pair) for pair in pairs]
    # A fold of more people tells more, as it does in the errors above.
    people_p = [table["participant_id"].nunique() for _, table in pairs]
    for name in probes[0] if probes else ():
        mean = np.average([p[name] for p in probes], axis=0, weights=people_p)
        metrics[f"probe_{name}"] = mean.tolist()
    write_json(folder.out / "metrics.json", metrics)
    save_card(
        folder.out,
        ModelCard(
            name=run.name,
            model=recipe.model,
            preprocess=recipe.preprocess,
            preprocessing_id=recipe.preprocess.identity(),
            ages=tuple(ages.tolist()),
            predictions=tuple(np.round(predictions, 3).tolist()),
            coverage=run.coverage,
            half_width=conformal_half_width(predictions - ages, run.coverage, people),
            metrics=metrics,
            provenance=provenance_of(recipe, data_hash),
        ),
    )
    return metrics


def provenance_of(recipe: Recipe, data_hash: str) -> dict[str, Any]:
    """Return what traces a model trained by a recipe: data, versions, settings.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    data_hash : str
        Of the study, as `data_hash` gives it.

    Returns
    -------
    dict
        Plain values; the model's card holds them.
    """
    return {
        "data": recipe.run.data,
        "licence": recipe.run.licence,
        "data_hash": data_hash,
        "seed": recipe.run.seed,
        "stem": recipe.run.stem,
        "ermoe_ba": __version__,
        "torch": torch.__version__,
        "tissue": None if recipe.tissue is None else asdict(recipe.tissue),
        "age": asdict(recipe.age),
        "choose": None if recipe.choose is None else asdict(recipe.choose),
    }


def _mae(recipe: Recipe, folder: RunFolder, repeat: int) -> float:
    parts = [fold_part(recipe.run, fold, repeat) for fold in range(recipe.run.num_folds)]
    table = pd.concat([read_run_table(folder.predictions(part)) for part in parts])
    sizes = (table["predicted_age"] - table["chronological_age"]).abs()
    return float(np.average(sizes, weights=person_shares(table["participant_id"].to_numpy())))


def _probe(
    recipe: Recipe, folder: RunFolder, tokens: TokenGrid, part: Part, table: pd.DataFrame
) -> Probe:
    """Probe a fold's members together on the scans they were not trained on."""
    described = load_file(folder.described(part))["test"]
    paths = [folder.member(part, number) for number in range(recipe.run.num_starts)]
    members = [load_member(path, recipe.model, tokens) for path in paths]
    ages = torch.tensor(table["chronological_age"].tolist(), dtype=torch.float32)
    return probe_routing(
        members,
        [described[:, 0].float()] * len(members),
        ages,
        part.seed,
        participants=table["participant_id"].tolist(),
    )


@torch.no_grad()
def match_experts(
    recipe: Recipe, folder: RunFolder, tokens: TokenGrid, parts: Sequence[Part]
) -> None:
    """Rename each member's free experts after those of the first that route alike.

    Routing is compared over some of the run's scans, as each part's stem describes them.

    Parameters
    ----------
    recipe : Recipe
        Of the run.
    folder : RunFolder
        Of the run.
    tokens : TokenGrid
        Where the tokens lie.
    parts : sequence of Part
        Whose members, all of which must be there; they are written anew where names change.
    """
    scans = read_run_table(folder.out / SCANS)["scan"].to_numpy()
    # Thirty scans settle a mean over tokens.
    every = max(1, len(scans) // 30)
    reference = None
    for part in parts:
        described = _described_unchanged(folder, part, scans)[::every]
        for number in range(recipe.run.num_starts):
            path = folder.member(part, number)
            member = load_member(path, recipe.model, tokens)
            weights = member.read_age(described).routing.weights_bte.mean(dim=0).numpy()
            if reference is None:
                reference = weights
                continue
            order = matched_order(reference, weights, len(recipe.model.regions))
            member.permute_experts(torch.tensor(order))
            save_member(path, member)


def _described_unchanged(folder: RunFolder, part: Part, scans: Array) -> torch.Tensor:
    """Return what a part's stem made of all scans as they are, shape (N, T, F, C), in their order.

    The part kept it, by sides of its split; within a side scans stand in the run's order.
    """
    tested = np.zeros(len(scans), dtype=bool)
    if part.fold is not None:
        tested = np.isin(scans, read_run_table(folder.predictions(part))["scan"].to_numpy())
    with safe_open(folder.described(part), framework="pt") as file:
        # The first variant of each scan is the scan itself.
        learnt = file.get_slice("train")[:, :1][:, 0].float()
        described = torch.empty(len(scans), *learnt.shape[1:])
        described[torch.as_tensor(~tested)] = learnt
        if tested.any():
            described[torch.as_tensor(tested)] = file.get_slice("test")[:, :1][:, 0].float()
    return described
