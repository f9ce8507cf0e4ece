"""The table of an ablation: a row for each network, intervals over participants and seeds.

Shapes: N participants, B test scans, T tokens, E experts.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, ttest_rel

from ermoe_ba.space import Array
from ermoe_ba.training.ablation_recipe import AblationRecipe, RowConfig
from ermoe_ba.training.ablation_unit import MOVED_BY, Routes, Unit, changed_share
from ermoe_ba.training.change_config import CHANGES
from ermoe_ba.training.matching import matched_order

# table.tsv, one line a row of the recipe: column, what it holds, decimals in table.md.
ABLATION_COLUMNS: dict[str, tuple[str, int]] = {
    "row": ("name in the recipe", 0),
    "mae": ("years; mean absolute error out of fold, mean over the seeds", 2),
    "mae_lower": ("lower end of its bootstrap interval over participants", 2),
    "mae_upper": ("upper end", 2),
    "mae_seed_sd": ("years; standard deviation of the MAE over the seeds", 2),
    "difference": ("years; MAE minus that of the reference row, same participants", 2),
    "difference_lower": ("lower end of its bootstrap interval over participants", 2),
    "difference_upper": ("upper end", 2),
    "difference_seed_lower": ("lower end of its t interval over seeds, these participants", 2),
    "difference_seed_upper": ("upper end", 2),
    "mae_zeroed": ("years; experts silenced", 2),
    "mae_random_routing": ("years; each token's weights given to random experts", 2),
    "mae_other_subject_routing": ("years; each scan routed as those of ten other people", 2),
    "mae_without_least": ("years; without the expert that each network misses least", 2),
    "mae_without_most": ("years; without the one that each misses most", 2),
    "load_gini": ("Gini coefficient of the load over experts; 0 is even", 2),
    "load_entropy": ("entropy of the load relative to even load; 1 is even", 2),
    "dead_experts": ("experts that serve no token of a fold's test scans, mean", 2),
    "changed_between_epochs": ("share of tokens whose experts change in an epoch, last epochs", 3),
    "changed_between_seeds": ("the same between seeds, experts matched", 3),
    "threshold_fallback_share": ("share of tokens that no expert was eligible for or took", 3),
    "max_orthonormality_error": ("max |V^T V - I| over all bases", 6),
    "seconds_per_step": (
        "processor seconds a training step, averaging of weights included, start left out",
        3,
    ),
    "parameters_active": (
        "trained parameters of the experts that serve a token and of all that is shared, codes and "
        "read-outs of every place included; stem left out",
        0,
    ),
    "parameters_total": ("trained parameters, stem left out", 0),
    **{
        f"{MOVED_BY}{change}": (
            f"years; mean distance of a test scan's age after {change} alone",
            2,
        )
        for change in CHANGES
    },
}

Units = Mapping[tuple[str, int, int], Unit]


def ablation_table(recipe: AblationRecipe, units: Units) -> pd.DataFrame:
    """Compare the rows of an ablation.

    Parameters
    ----------
    recipe : AblationRecipe
        Rows, seeds, folds, reference and bootstrap.
    units : mapping
        By row name, seed and fold; all of them.

    Returns
    -------
    DataFrame
        Columns of `ABLATION_COLUMNS`; not-a-number where a row has no such figure.
    """
    config = recipe.ablation
    reference = _errors(recipe, units, config.reference)
    lines = []
    for row in recipe.row:
        errors = _errors(recipe, units, row.name)
        mean_n = errors.mean(axis=1)
        line: dict[str, object] = {"row": row.name, "mae": mean_n.mean()}
        line["mae_lower"], line["mae_upper"] = mean_interval(mean_n.to_numpy(), recipe)
        if len(config.seeds) > 1:
            line["mae_seed_sd"] = errors.mean(axis=0).std()
        if row.name != config.reference:
            difference = (mean_n - reference.mean(axis=1)).to_numpy()
            line["difference"] = difference.mean()
            line["difference_lower"], line["difference_upper"] = mean_interval(difference, recipe)
            if len(config.seeds) > 1:
                pairs = ttest_rel(errors.mean(axis=0), reference.mean(axis=0))
                over_seeds = pairs.confidence_interval(config.confidence)
                line["difference_seed_lower"] = float(over_seeds.low)
                line["difference_seed_upper"] = float(over_seeds.high)
        line |= mean_figures(
            [units[row.name, seed, fold] for seed in config.seeds for fold in config.folds]
        )
        line["changed_between_seeds"] = _changed_between_seeds(recipe, units, row)
        lines.append(line)
    return pd.DataFrame(lines, columns=list(ABLATION_COLUMNS))


def mean_figures(units: Sequence[Unit]) -> dict[str, float]:
    """Return the mean of each figure over the networks of a row.

    Parameters
    ----------
    units : sequence of Unit
        Of all seeds and folds; at least one.

    Returns
    -------
    dict
        By name. Errors and moves, which are years a person, count each network by the people whom
        it was tested on, as the row's own error does; whatever else a network has, once. Networks
        that have no such figure do not count.
    """
    table = pd.DataFrame([unit.figures for unit in units])
    people = np.array([len(set(unit.participant_id)) for unit in units], dtype=float)
    means = {}
    for name in map(str, table):
        values = table[name].to_numpy(dtype=float)
        known = np.isfinite(values)
        weights = people if name.startswith(("mae_", MOVED_BY)) else np.ones(len(units))
        mean = np.average(values[known], weights=weights[known]) if known.any() else np.nan
        means[name] = float(mean)
    return means


def mean_interval(values_n: Array, recipe: AblationRecipe) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over participants.

    Parameters
    ----------
    values_n : ndarray, shape (N,)
        One number a participant.
    recipe : AblationRecipe
        Confidence and resamples; its first seed makes the interval repeatable.

    Returns
    -------
    tuple of float
        Lower and upper end.
    """
    config = recipe.ablation
    found = bootstrap(
        (values_n,),
        np.mean,
        n_resamples=config.resamples,
        confidence_level=config.confidence,
        method="percentile",
        rng=np.random.default_rng(config.seeds[0]),
    ).confidence_interval
    return float(found.low), float(found.high)


def _errors(recipe: AblationRecipe, units: Units, row: str) -> pd.DataFrame:
    """Return mean absolute errors in years: a line for each participant, a column for each seed."""
    columns = {}
    for seed in recipe.ablation.seeds:
        folds = [units[row, seed, fold] for fold in recipe.ablation.folds]
        errors = pd.concat(
            pd.Series(unit.predicted_age, unit.participant_id) - np.array(unit.chronological_age)
            for unit in folds
        )
        # A person's scans are one person's: they share a place in the interval.
        columns[seed] = errors.abs().groupby(level=0).mean()
    return pd.DataFrame(columns)


def _changed_between_seeds(recipe: AblationRecipe, units: Units, row: RowConfig) -> float:
    shares = []
    for fold in recipe.ablation.folds:
        routes = [units[row.name, seed, fold].routes for seed in recipe.ablation.seeds]
        known = [r for r in routes if r is not None]
        shares += [changed_after_matching(a, b) for a, b in itertools.combinations(known, 2)]
    return float(np.mean(shares)) if shares else float("nan")


def changed_after_matching(reference: Routes, other: Routes) -> float:
    """Return the share of tokens served by other experts, each named after its likest.

    Parameters
    ----------
    reference, other : Routes
        Of two networks of one shape over the same scans.

    Returns
    -------
    float
        0 to 1.
    """
    order = matched_order(reference.weights_te, other.weights_te, reference.num_regional)
    return changed_share(reference.selected_bte, other.selected_bte[..., order])


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table of `ablation_table` as Markdown, n/a where there is no number.

    Parameters
    ----------
    table : DataFrame
        Columns of `ABLATION_COLUMNS`.

    Returns
    -------
    str
        One line a row; columns without any number are left out, and a legend of the others follows.
    """
    shown = [name for name in table.columns if table[name].notna().any()]
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for row in table[shown].to_dict("records"):
        cells = [
            value if isinstance(value, str) else _number(value, ABLATION_COLUMNS[str(name)][1])
            for name, value in row.items()
        ]
        lines.append("| " + " | ".join(cells) + " |")
    legend = [f"- `{name}`: {ABLATION_COLUMNS[name][0]}" for name in shown]
    return "\n".join([*lines, "", *legend]) + "\n"


def _number(value: float, decimals: int) -> str:
    return "n/a" if np.isnan(value) else f"{value:.{decimals}f}"
