"""The choice among named settings, by inner folds of the scans that a part is trained on.

Shapes: N scans, V variants of each, T tokens, F families of description, C tissue classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ermoe_ba.cohort import Participants
from ermoe_ba.config import from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.metrics import person_shares
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.splits import split_folds
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import train_age
from ermoe_ba.training.history import Cost
from ermoe_ba.training.recipe import AS_WRITTEN, Recipe


@dataclass(frozen=True)
class Choice:
    """Which settings a part is trained with, and why.

    Parameters
    ----------
    name : str
        Of the alternative with the least error.
    mae : dict
        Mean absolute error of each alternative over the inner folds, in years, where scans of one
        person share that person's weight; empty where the recipe leaves no choice.
    """

    name: str
    mae: dict[str, float]


def read_choice(path: Path, recipe: Recipe) -> Choice:
    """Read what an earlier start of a run chose.

    Parameters
    ----------
    path : Path
        Of the file, JSON: the fields of `Choice`.
    recipe : Recipe
        Of the run: must know the name.

    Returns
    -------
    Choice
        As it was made.

    Raises
    ------
    UsageError
        If the file is no choice among the recipe's settings.
    """
    try:
        choice = from_plain(Choice, json.loads(path.read_text(encoding="utf-8")))
        if choice.name not in recipe.age_alternatives():
            raise ValueError(f"found {choice.name!r}")
    except ValueError as error:
        raise UsageError(
            f"{path}: must tell which settings of the recipe were chosen ({error}). Remove it to "
            "choose anew."
        ) from error
    return choice


def choose_settings(
    recipe: Recipe,
    tokens: TokenGrid,
    train_nv: torch.Tensor,
    people: pd.DataFrame,
    seed: int,
) -> tuple[Choice, Cost]:
    """Choose how a part's members are trained; who is tested in it is not seen.

    Each alternative is trained once on each inner fold's training part, all from the same seeds.
    The stem, which never sees ages, is that of the whole part.

    Parameters
    ----------
    recipe : Recipe
        Alternatives and the number of inner folds.
    tokens : TokenGrid
        Of the network.
    train_nv : Tensor, shape (N, V, T, F, C)
        The part's training scans as `scan_variants` gives them.
    people : DataFrame
        Of each scan ``participant_id``, since nobody may stand on both sides of an inner fold, and
        ``age`` in years; ``site`` too where it is known, in which inner folds are balanced as outer
        ones are. N rows.
    seed : int
        Of the inner folds and of all training within.

    Returns
    -------
    choice : Choice
        The first of equally good ones.
    cost : Cost
        Of all trainings together.

    Raises
    ------
    UsageError
        If there are fewer people than inner folds.
    """
    alternatives = recipe.age_alternatives()
    if recipe.choose is None:
        return Choice(AS_WRITTEN, {}), Cost()
    ages_n = people["age"].to_numpy()
    # Of people scanned at several ages the mean, as outer folds have it.
    each = Participants(
        people.groupby("participant_id", sort=False).agg(
            {name: "mean" if name == "age" else "first" for name in people.columns[1:]}
        )
    )
    fold_of = split_folds(each, recipe.choose.num_folds, seed)
    fold_n = people["participant_id"].map(fold_of).to_numpy()
    share_n = person_shares(people["participant_id"].to_numpy())
    mae, cost = {}, Cost()
    for name, settings in alternatives.items():
        errors = np.empty(len(ages_n))
        for fold in range(recipe.choose.num_folds):
            inside, outside = np.flatnonzero(fold_n != fold), np.flatnonzero(fold_n == fold)
            torch.manual_seed(seed + fold)
            member = ErmoeBrainAge(recipe.model, tokens)
            history = train_age(
                member,
                train_nv[inside],
                ages_n[inside],
                settings,
                seed + fold,
                participants=people["participant_id"].iloc[inside].tolist(),
            )
            cost += history.cost
            with torch.no_grad():
                found = member.read_age(train_nv[outside, 0].float()).age_b.numpy()
            errors[outside] = np.abs(found - ages_n[outside])
        mae[name] = float(np.average(errors, weights=share_n))
    return Choice(min(mae, key=lambda name: mae[name]), mae), cost
