"""Simulated sites: other scanners and protocols, each a row of changes made to a real head."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion

from ermoe_ba.changes import CHANGES
from ermoe_ba.resampling import resample
from ermoe_ba.space import Volume


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change that a site makes.

    Parameters
    ----------
    change : str
        Name from `ermoe_ba.changes.CHANGES`.
    amount : float
        As that change takes it.

    Raises
    ------
    ValueError
        If there is no such change.
    """

    change: str
    amount: float

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise ValueError(f"change must be one of {', '.join(CHANGES)}; found {self.change!r}.")


@dataclass(frozen=True, kw_only=True)
class SimulatedSite:
    """One scanner with its protocol.

    Parameters
    ----------
    name : str
        What it is called.
    steps : tuple of Step
        In the order in which they are made.
    extracted : bool
        Whether the site gives brains that another program cut out, 2 mm inside the cavity: what
        lies around them is 0, so that preprocessing takes their outline as it is. Such a site must
        not move the head in the image.
    """

    name: str
    steps: tuple[Step, ...]
    extracted: bool = False

    def scan(self, head: Volume, cavity: Volume, rng: np.random.Generator) -> Volume:
        """Return a head as the site would have given it.

        Parameters
        ----------
        head : Volume
            The scan, shape (I, J, K).
        cavity : Volume
            Above 0 inside the skull, on the grid of `head`.
        rng : Generator
            Of the noise.

        Returns
        -------
        Volume
            On the site's grid.
        """
        scanned = head
        for step in self.steps:
            scanned = CHANGES[step.change](scanned, step.amount, rng)
        if not self.extracted:
            return scanned
        inner = binary_erosion(cavity.data > 0).astype(np.float32)
        there = resample(cavity.same_grid(inner), scanned.grid, order=0).data > 0.5
        return scanned.same_grid(np.where(there, scanned.data, 0).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class StepRange:
    """A change that some of the drawn sites make.

    Parameters
    ----------
    change : str
        Name from `ermoe_ba.changes.CHANGES`.
    low, high : float
        Between which the amount is drawn evenly.
    share : float
        Of the sites that make it, 0 to 1.
    """

    change: str
    low: float
    high: float
    share: float


@dataclass(frozen=True, kw_only=True)
class SiteRanges:
    """What sites are drawn from.

    Parameters
    ----------
    steps : tuple of StepRange
        In the order in which a site makes them.
    extracted_share : float
        Share of the sites that give brains already cut out; none of the steps may then move the
        head in the image.
    """

    steps: tuple[StepRange, ...]
    extracted_share: float

    def draw(self, name: str, rng: np.random.Generator) -> SimulatedSite:
        """Draw one site.

        Parameters
        ----------
        name : str
            What it shall be called.
        rng : Generator
            Of its steps and their amounts.

        Returns
        -------
        SimulatedSite
        """
        extracted = bool(rng.random() < self.extracted_share)
        steps = []
        for step in self.steps:
            # Both are drawn whether they serve or not: one share moves no other site's amounts.
            taken, amount = rng.random() < step.share, float(rng.uniform(step.low, step.high))
            if taken:
                steps.append(Step(change=step.change, amount=amount))
        return SimulatedSite(name=name, steps=tuple(steps), extracted=extracted)


@dataclass(frozen=True, kw_only=True)
class SiteTrial:
    """Whom the sites scan: content of ``pipelines/sites.toml``.

    Parameters
    ----------
    every : int
        Of the people in the order of their ages, every so many are scanned by the named sites, from
        the youngest on. Each of the others is scanned by a site of its own.
    seed : int
        Of drawn sites and of noise.
    site : tuple of SimulatedSite
        The named sites.
    drawn : SiteRanges
        What the others' sites are drawn from.

    Raises
    ------
    ValueError
        If `every` leaves nobody for the drawn sites.
    """

    every: int
    seed: int
    site: tuple[SimulatedSite, ...]
    drawn: SiteRanges

    def __post_init__(self) -> None:
        if self.every < 2:
            raise ValueError(f"every must be at least 2; found {self.every}.")

    def numbered(self, age_of: pd.Series) -> tuple[dict[str, int], dict[str, int]]:
        """Return the people of the named sites and those of the drawn ones, with their numbers.

        Parameters
        ----------
        age_of : Series
            Years, by participant_id.

        Returns
        -------
        tuple of dict
            Place in the order of ages, by participant_id; equal ages in the order of names.
        """
        ordered = age_of.sort_index(kind="stable").sort_values(kind="stable").index
        number_of = {str(person): number for number, person in enumerate(ordered)}
        named = {p: n for p, n in number_of.items() if n % self.every == 0}
        return named, {p: n for p, n in number_of.items() if n % self.every}

    def generator(self, number: int, place: int) -> np.random.Generator:
        """Return the generator of one scan.

        Parameters
        ----------
        number : int
            Of the person, from `numbered`.
        place : int
            Of the site: 0 for the drawn one, the named ones from 1.

        Returns
        -------
        Generator
            At its beginning.
        """
        return np.random.default_rng([self.seed, number, place])
