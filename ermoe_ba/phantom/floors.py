"""Floors: how well anyone could read the ages of a phantom cohort.

The planted gap is not written in any image: it bounds every model. What remains is told by exact
inference from the planted volumes, and by plain regressions on the volumes that came out.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.latents import (
    draw_subject,
    median_log_fractions,
    region_ages,
    residual_spreads,
)
from ermoe_ba.phantom.norms import residual_correlation
from ermoe_ba.phantom.regions import REGIONS
from ermoe_ba.space import Array

# Steps of the quadrature in years; the sums below change by less than 0.01 y at half of them.
AGE_STEP = 0.25
# Gaps beyond so many standard deviations are left out.
GAP_REACH = 4.5
FOLDS = 5
RIDGE_PENALTIES = np.logspace(-2, 4, 25)
# Without it the quadrature would have to resolve a gap of nothing.
LEAST_GAP_SD = 0.05


def _grids(config: PhantomConfig) -> tuple[Array, Array, Array]:
    """Return ages (A,), biological ages (B,), and the density of each given each age (B, A)."""
    ages = np.arange(config.youngest, config.oldest + AGE_STEP / 2, AGE_STEP)
    sd = max(config.gap_sd, LEAST_GAP_SD)
    reach = GAP_REACH * sd
    biological = np.arange(ages[0] - reach, ages[-1] + reach, AGE_STEP)
    return ages, biological, norm.pdf(biological[:, None], ages[None, :], sd)


def _medians(ages: Array, posterior: Array) -> Array:
    """Return the medians of densities over ages, shape (n, A) to (n,)."""
    total = np.cumsum(posterior, axis=1)
    return np.asarray(ages[(total >= total[:, -1:] / 2).argmax(axis=1)])


def latent_floor(config: PhantomConfig) -> float:
    """Return the least MAE of age that knowing the biological age exactly allows, in years.

    ``E |age - median(age | biological age)|`` over a uniform age, by quadrature. Away from the ends
    of the range it is ``gap_sd * sqrt(2 / pi)``.

    Parameters
    ----------
    config : PhantomConfig
        Range of ages and spread of gaps.

    Returns
    -------
    float
        In years.
    """
    ages, _, joint = _grids(config)
    error = np.abs(ages[None, :] - _medians(ages, joint)[:, None])
    return float((joint * error).sum() / joint.sum())


def volume_floor(config: PhantomConfig, count: int) -> float:
    """Return the least MAE of age that the planted volumes allow, in years, by Monte Carlo.

    Subjects are drawn as the cohort's are; given the biological age, the logarithms of their
    volumes are normal with known mean and covariance, so that the posterior of the age is exact but
    for its grid and the rare residuals that `draw_subject` bounds. Lesions are not used.

    Parameters
    ----------
    config : PhantomConfig
        Settings of the cohort.
    count : int
        Subjects to draw; the standard error of the result is about 2 y / sqrt(count).

    Returns
    -------
    float
        In years.
    """
    ages, biological, given_age = _grids(config)
    subjects = [draw_subject(config, index) for index in range(1, count + 1)]
    observed = np.stack([np.log(s.planted_ml / s.intracranial_ml) for s in subjects])
    whiten = np.linalg.inv(np.linalg.cholesky(residual_correlation()))
    likelihood = np.zeros((count, len(biological)))
    states = (False, True) if config.accelerate else (False,)
    logs = []
    for state in states:
        looks = region_ages(config, biological, np.full(len(biological), state))
        level, spread = median_log_fractions(looks), residual_spreads(config, looks)
        scaled = (observed[:, None, :] - level[None]) / spread[None]
        distance = ((scaled @ whiten.T) ** 2).sum(axis=-1)
        logs.append(-distance / 2 - np.log(spread).sum(axis=-1)[None])
    together = np.logaddexp.reduce(logs, axis=0)
    likelihood = np.exp(together - together.max(axis=1, keepdims=True))
    predicted = _medians(ages, likelihood @ given_age)
    return float(mean_absolute_error([s.age for s in subjects], predicted))


def regression_floors(table: pd.DataFrame) -> dict[str, float]:
    """Return the MAE of plain regressions on the volumes that came out, out of fold, in years.

    Parameters
    ----------
    table : DataFrame
        Participants table of a phantom cohort.

    Returns
    -------
    dict
        ``median``, ``ridge`` and ``gaussian_process``.
    """
    names = [f"realised_{region.name}_ml" for region in REGIONS]
    cavity = table["realised_intracranial_ml"].to_numpy()
    volumes = np.log(table[names].to_numpy() / cavity[:, None])
    age = table["age"].to_numpy()
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    # One length for all volumes: with fewer subjects than a thousand more would only fit noise.
    # Ages are scaled to unit variance, of which the planted gap is a few hundredths and can never
    # be explained; a smooth curve over far apart volumes needs many times that variance.
    signal = ConstantKernel(10.0, (1e-2, 1e5))
    kernel = signal * RBF(10.0, (0.1, 1e4)) + WhiteKernel(0.1, (1e-6, 1e1))
    models = {
        "ridge": RidgeCV(RIDGE_PENALTIES),
        "gaussian_process": GaussianProcessRegressor(kernel, normalize_y=True, random_state=0),
    }
    result = {"median": float(np.abs(age - np.median(age)).mean())}
    for name, model in models.items():
        predicted = cross_val_predict(
            make_pipeline(StandardScaler(), model), volumes, age, cv=folds
        )
        result[name] = float(mean_absolute_error(age, predicted))
    return result
