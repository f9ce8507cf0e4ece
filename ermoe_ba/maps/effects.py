"""Where maps go along with age, gap or group: a linear model at each token, held to permutations.

Shapes: P participants, T tokens, E experts, V maps (the contribution, then the experts).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.maps.cohort import MIN_PARTICIPANTS, CohortMaps, age_weights
from ermoe_ba.maps.files import AGE
from ermoe_ba.maps.overlap import RegionOverlap
from ermoe_ba.maps.people import OWN_COLUMNS
from ermoe_ba.space import Array
from ermoe_ba.tables import EFFECT_COLUMNS

# Corrected p below which a token counts in the table.
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect on the maps of a cohort.

    Parameters
    ----------
    name : str
        ``age``, ``gap``, or ``group-<value>``.
    meaning : str
        The model, in words.
    participants : int
        How many it rests on.
    years_te : ndarray
        What a unit of the effect, a year or the belonging to the group, adds to the years of each
        token and expert: the coefficient of the model.
    t_tv : ndarray
        t at each token; 0 where the map is the same in all participants. Maps are the contribution
        of all experts together, then the routing weight of each.
    logp_tv : ndarray
        −log10 of the two-sided p value, corrected over tokens and maps together.
    """

    name: str
    meaning: str
    participants: int
    years_te: Array
    t_tv: Array
    logp_tv: Array


def measure_effects(
    cohort: CohortMaps, group_column: str | None, permutations: int, seed: int
) -> list[Effect]:
    """Test age, gap and groups on all maps of a cohort.

    Ordinary least squares, whose residuals are permuted (Anderson & Robinson 2001), and the largest
    ``|t|`` over all tokens and maps (nilearn's `permuted_ols`): the family-wise error is held.

    Parameters
    ----------
    cohort : CohortMaps
        One row a participant, so that rows can be exchanged.
    group_column : str, optional
        Column of the participants table; each of its values is tested against all others.
    permutations : int
        How many; the smallest p value is 1 / (permutations + 1).
    seed : int
        Of the permutations.

    Returns
    -------
    list of Effect
        Age and the gap at equal age, of participants whose age is known; groups at equal age where
        all ages are known. Without ages, none of the first two; nor the gap where age alone tells
        it, as that of a model that gives everybody one age.

    Raises
    ------
    UsageError
        If the extra is not installed, there is no such column, or it does not tell people apart, or
        not those of one age.
    """
    models = []
    ages, gaps = (cohort.people[c].to_numpy() for c in ("chronological_age", "brain_age_gap"))
    known = np.isfinite(ages)
    if age_weights(ages) is not None:
        models += [
            _Model(
                name=AGE,
                meaning="along chronological age",
                tested_p=ages,
                confound_p=None,
                included_p=known,
            ),
        ]
        gap = _Model(
            name="gap",
            meaning="along the gap, at equal chronological age",
            tested_p=gaps,
            confound_p=ages,
            included_p=known,
        )
        models += [gap] if gap.differs else []
    if group_column is not None:
        labels = _groups(cohort.people, group_column)
        belongs = labels.notna().to_numpy()
        # A model with ages for some only would leave the others out without a word.
        confound = ages if known[belongs].all() else None
        equal = ", at equal chronological age" if confound is not None else ""
        values = sorted(labels.dropna().unique())
        # Of two groups, the second against the first says all.
        groups = [
            _Model(
                name=f"group-{value}",
                meaning=f"{group_column} {value} against all others{equal}",
                tested_p=(labels == value).to_numpy(dtype=np.float64),
                confound_p=confound,
                included_p=belongs,
            )
            for value in (values[1:] if len(values) == 2 else values)
        ]
        if told := [model.name for model in groups if not model.differs]:
            raise UsageError(
                f"--groups {group_column}: groups must hold people of several ages to be compared "
                f"at equal age; found {', '.join(told)} told by age alone. Give groups of like "
                "ages."
            )
        models += groups
    return [_effect(cohort, model, permutations, seed) for model in models]


def _groups(people: pd.DataFrame, column: str) -> pd.Series:
    known = [name for name in people if name not in OWN_COLUMNS]
    if column not in known:
        own = ", a name of the results' own: rename it in the table" * (column in OWN_COLUMNS)
        raise UsageError(
            f"--groups {column}: must be a further column of the participants table{own}; found "
            f"{', '.join(map(str, known)) or 'none'}."
        )
    labels = people[column]
    sizes = labels.value_counts()
    if len(sizes) < 2 or sizes.sum() < MIN_PARTICIPANTS or sizes.min() < 2:
        raise UsageError(
            f"--groups {column}: must hold at least two groups of two, {MIN_PARTICIPANTS} "
            f"participants in all; found {sizes.to_dict()}."
        )
    return labels.astype("object")


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What is tested, at equal values of what, in whom."""

    name: str
    meaning: str
    tested_p: Array
    confound_p: Array | None
    included_p: Array

    @property
    def design_pk(self) -> Array:
        """What is tested, the constant and the confound, in this order, of whom is included."""
        columns = [self.tested_p, np.ones(len(self.tested_p))]
        columns += [] if self.confound_p is None else [self.confound_p]
        return np.stack(columns, axis=1)[self.included_p]

    @property
    def differs(self) -> bool:
        """Whether what is tested differs between people of equal confound."""
        tested_p, others_pk = np.split(self.design_pk, [1], axis=1)
        left_p = tested_p - others_pk @ np.linalg.lstsq(others_pk, tested_p)[0]
        # Gaps are differences of ages, so that rounding leaves up to 1e-14 of these.
        return bool(np.abs(left_p).max() > 1e-9 * np.abs(tested_p).max())


def _effect(cohort: CohortMaps, model: _Model, permutations: int, seed: int) -> Effect:
    try:
        from nilearn.mass_univariate import permuted_ols
    except ImportError as error:
        raise UsageError(
            "Effects on maps need an extra; install it: pip install 'ermoe_ba[maps]'."
        ) from error
    total_pt1 = cohort.years_pte.sum(axis=2, keepdims=True, dtype=np.float64)
    maps_ptv = np.concatenate([total_pt1, cohort.weights_pte], axis=2)[model.included_p]
    count, shape = len(maps_ptv), maps_ptv.shape[1:]
    flat = maps_ptv.reshape(count, -1)
    # Constant maps have no t; an expert that never serves a place is one.
    varies = flat.std(axis=0) > 0
    result = permuted_ols(
        model.tested_p[model.included_p, None],
        flat[:, varies],
        None if model.confound_p is None else model.confound_p[model.included_p, None],
        n_perm=permutations,
        two_sided_test=True,
        random_state=seed,
        n_jobs=1,
        output_type="dict",
    )
    t, logp = np.zeros(len(varies)), np.zeros(len(varies))
    t[varies], logp[varies] = result["t"][0], result["logp_max_t"][0]
    return Effect(
        name=model.name,
        meaning=model.meaning,
        participants=count,
        years_te=_coefficients(cohort, model),
        t_tv=t.reshape(shape),
        logp_tv=logp.reshape(shape),
    )


def _coefficients(cohort: CohortMaps, model: _Model) -> Array:
    """Return the least squares coefficient of the tested variable in the years, shape (T, E)."""
    design_pk = model.design_pk
    years_pn = cohort.years_pte[model.included_p].reshape(len(design_pk), -1)
    coefficients_kn = np.linalg.lstsq(design_pk, years_pn.astype(np.float64))[0]
    return np.asarray(coefficients_kn[0].reshape(cohort.years_pte.shape[1:]))


def effect_table(cohort: CohortMaps, effects: list[Effect], overlap: RegionOverlap) -> pd.DataFrame:
    """Summarise effects by map.

    Parameters
    ----------
    cohort : CohortMaps
        The cohort.
    effects : list of Effect
        From `measure_effects`.
    overlap : RegionOverlap
        Of the cohort's tokens and the regions that peaks are named by.

    Returns
    -------
    DataFrame
        Columns of `EFFECT_COLUMNS`, one row an effect and map.
    """
    names = ["contribution", *cohort.experts["name"]]
    rows = []
    for effect in effects:
        for number, name in enumerate(names):
            t, logp = effect.t_tv[:, number], effect.logp_tv[:, number]
            peak = int(np.abs(t).argmax())
            x, y, z = cohort.tokens.centres_mm[peak]
            region = overlap.regions.iloc[int(overlap.borne_rt[:, peak].argmax())]
            rows.append(
                {
                    "effect": effect.name,
                    "map": name,
                    "participants": effect.participants,
                    "years": effect.years_te.sum() if number == 0 else np.nan,
                    "tokens_up": int(np.count_nonzero((t > 0) & (logp > -np.log10(ALPHA)))),
                    "tokens_down": int(np.count_nonzero((t < 0) & (logp > -np.log10(ALPHA)))),
                    "peak_t": t[peak],
                    "peak_p": 10.0 ** -logp[peak],
                    "peak_x_mm": x,
                    "peak_y_mm": y,
                    "peak_z_mm": z,
                    "peak_region": region["name"],
                    "peak_hemisphere": region["hemisphere"],
                }
            )
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))
