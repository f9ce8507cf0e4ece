"""Latents: who a subject is and what volumes are planted, before any image is made."""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.norms import load_norms, residual_correlation
from ermoe_ba.phantom.regions import REGIONS, Kind
from ermoe_ba.space import Array

# A region that does not age stays as it is at this age, the middle of adult life.
REFERENCE_AGE = 50.0
# Fluid in sulci and cisterns is what the planted volumes leave of the cavity. The norms leave 9 %
# at 21 years; below 3 % no cisterns would be left.
MIN_SULCAL_CSF = 0.03
# White matter hyperintensities: volume in mL at 60 years, factor per 20 years, SD of the logarithm.
# After the order of size in population studies: less than 1 mL in youth, about 10 mL at 80.
LESION_ML_AT_60, LESION_FACTOR, LESION_SD = 2.0, 5.0, 0.8
LARGEST_LESION_ML = 60.0
# Residuals end here, in standard deviations: the norms' outer centiles lie at 1.64.
LARGEST_RESIDUAL = 2.0
# One stream of random numbers a purpose, so that drawing more for one moves no other.
STREAMS = ("latents", "anatomy", "shape", "lesions", "acquisition")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The truth about one subject.

    Parameters
    ----------
    index : int
        Number within the cohort, from 1.
    age : float
        Chronological age in years.
    sex : str
        ``F`` or ``M``.
    site : int
        Number of the scanner, from 1.
    gap : float
        Planted brain age gap in years.
    accelerated : bool
        Whether some regions are older than the rest.
    intracranial_ml : float
        Volume of the cavity.
    planted_ml : ndarray, shape (regions,)
        Volumes in the order of `REGIONS`.
    lesion_ml : float
        Volume of white matter hyperintensities, which belong to the white matter.
    """

    index: int
    age: float
    sex: str
    site: int
    gap: float
    accelerated: bool
    intracranial_ml: float
    planted_ml: Array
    lesion_ml: float

    @property
    def participant_id(self) -> str:
        """BIDS participant, without ``sub-``; of equal length, so that cohorts can grow."""
        return f"{self.index:06d}"

    @property
    def biological_age(self) -> float:
        """Age plus gap in years: what the regions that age look like."""
        return self.age + self.gap


def stream(config: PhantomConfig, index: int, purpose: str) -> np.random.Generator:
    """Return the random numbers of one subject for one purpose out of `STREAMS`.

    Parameters
    ----------
    config : PhantomConfig
        Gives the seed.
    index : int
        Number of the subject, from 1.
    purpose : str
        One of `STREAMS`.

    Returns
    -------
    Generator
        At its beginning.

    Raises
    ------
    ValueError
        If there is no such purpose.
    """
    return np.random.default_rng([config.seed, index, STREAMS.index(purpose)])


def region_ages(config: PhantomConfig, biological_age: Array, accelerated: Array) -> Array:
    """Return the age that each region looks like.

    Parameters
    ----------
    config : PhantomConfig
        Which regions age, and which faster.
    biological_age : ndarray, shape (n,)
        Years.
    accelerated : ndarray of bool, shape (n,)
        Whose regions age faster.

    Returns
    -------
    ndarray, shape (n, regions)
        Years.
    """
    ageing, faster = config.ageing_regions(), config.planted_regions() if config.accelerate else []
    ages = np.array([[region in ageing for region in REGIONS]])
    ages = np.where(ages, biological_age[:, None], REFERENCE_AGE)
    extra = config.acceleration * np.array([region in faster for region in REGIONS])
    return ages + accelerated[:, None] * extra


def median_log_fractions(ages_nr: Array) -> Array:
    """Return medians of the logarithm of volume over cavity, at each region's own age.

    Parameters
    ----------
    ages_nr : ndarray, shape (n, regions)
        Years.

    Returns
    -------
    ndarray, shape (n, regions)
        Natural logarithms.
    """
    return np.asarray(np.diagonal(load_norms().log_fraction(ages_nr), axis1=-2, axis2=-1))


def residual_spreads(config: PhantomConfig, ages_nr: Array) -> Array:
    """Return the spreads about `median_log_fractions`, at each region's own age.

    Parameters
    ----------
    config : PhantomConfig
        Gives the spread of gaps, which is taken off, and the share of variation.
    ages_nr : ndarray, shape (n, regions)
        Years.

    Returns
    -------
    ndarray, shape (n, regions)
        Standard deviations of the logarithm.
    """
    spread = load_norms().residual_spread(ages_nr, config.gap_sd)
    return config.variation * np.asarray(np.diagonal(spread, axis1=-2, axis2=-1))


def draw_subject(config: PhantomConfig, index: int) -> Subject:
    """Draw the truth about one subject.

    Volumes are log-normal about the norms' medians at the biological age, with the spread that the
    gap does not already explain, and with residuals that vary together within pairs and kinds.

    Parameters
    ----------
    config : PhantomConfig
        Settings of the cohort.
    index : int
        Number of the subject, from 1.

    Returns
    -------
    Subject
    """
    rng = stream(config, index, "latents")
    age = round(float(rng.uniform(config.youngest, config.oldest)), 2)
    sex = str(rng.choice(["F", "M"]))
    site = int(rng.integers(config.sites)) + 1
    gap = float(rng.normal(0.0, config.gap_sd))
    accelerated = bool(rng.random() < 0.5) and bool(config.accelerate)
    mean, spread = load_norms().cavity[sex]
    cavity = float(np.exp(rng.normal(mean, spread)))
    ages = region_ages(config, np.array([age + gap]), np.array([accelerated]))
    level = median_log_fractions(ages)[0]
    mixed = np.linalg.cholesky(residual_correlation()) @ rng.standard_normal(len(REGIONS))
    mixed = np.clip(mixed, -LARGEST_RESIDUAL, LARGEST_RESIDUAL)
    residual = mixed * residual_spreads(config, ages)[0]
    while np.exp(level + residual).sum() > 1 - MIN_SULCAL_CSF:
        # Rare (a brain larger than its cavity allows): nearer to the median, all regions alike.
        residual *= 0.8
    white = float(ages[0, [region.kind is Kind.WHITE for region in REGIONS]].mean())
    lesions = LESION_ML_AT_60 * LESION_FACTOR ** ((white - 60.0) / 20.0)
    lesions *= float(np.exp(rng.normal(0.0, LESION_SD)))
    return Subject(
        index=index,
        age=age,
        sex=sex,
        site=site,
        gap=gap,
        accelerated=accelerated,
        intracranial_ml=cavity,
        planted_ml=np.exp(level + residual) * cavity,
        lesion_ml=min(lesions, LARGEST_LESION_ML),
    )
