"""What a phantom cohort is asked to be."""

from dataclasses import asdict, dataclass
from typing import Any

from ermoe_ba.errors import UsageError
from ermoe_ba.phantom.regions import REGIONS, Region, find_regions

# What the norms cover, and as far beyond as their curves may go on straight.
YOUNGEST, OLDEST = 18.0, 95.0


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Settings of a cohort; the same settings, seed and index always give the same subject.

    Parameters
    ----------
    seed : int
        Of everything that is drawn.
    youngest, oldest : float
        Chronological ages are uniform between these, in years.
    gap_sd : float
        Standard deviation of the planted brain age gap in years: what no image can tell.
    variation : float
        How far people of one biological age differ in their volumes, as a share of how far healthy
        adults do. Most regions alone hardly tell an age: a planted effect that a few dozen subjects
        can teach needs less than 1.
    shape_variation : float
        How far their heads differ in shape where no volume asks for it, as a share of the usual;
        0 to 1. Parts of the brain that only moved are most of what tells two people apart.
    sites : int
        Number of scanners, each with its own contrast and artefacts.
    spare : tuple of str
        Regions that do not age (names as in `find_regions`); all others do.
    only : tuple of str
        Regions that age; no other does. Not together with `spare`.
    accelerate : tuple of str
        Regions that are older than the rest by `acceleration` in half of the subjects.
    acceleration : float
        Years.
    head : bool
        Whether skull, scalp and face are drawn; the anatomies must have them.

    Raises
    ------
    UsageError
        If a setting is out of range, or a region is not known.
    """

    seed: int = 0
    youngest: float = 18.0
    oldest: float = 90.0
    # The spread of published brain age gaps after the models' own errors: 3 to 4 years.
    gap_sd: float = 3.5
    variation: float = 1.0
    shape_variation: float = 1.0
    sites: int = 4
    spare: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    accelerate: tuple[str, ...] = ()
    acceleration: float = 10.0
    head: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"The seed must be 0 or more; found {self.seed}.")
        if not YOUNGEST <= self.youngest < self.oldest <= OLDEST:
            raise UsageError(
                f"Ages must rise within {YOUNGEST:g} to {OLDEST:g} years; found "
                f"{self.youngest:g}:{self.oldest:g}."
            )
        if not 0 <= self.gap_sd <= 10:
            raise UsageError(f"The gap's SD must lie between 0 and 10 years; found {self.gap_sd}.")
        if not 0 < self.variation <= 1:
            raise UsageError(
                f"The variation must lie above 0 and at most at 1; found {self.variation}."
            )
        if not 0 <= self.shape_variation <= 1:
            raise UsageError(
                f"The variation of shape must lie between 0 and 1; found {self.shape_variation}."
            )
        if self.sites < 1:
            raise UsageError(f"There must be at least one site; found {self.sites}.")
        if self.spare and self.only:
            raise UsageError("Give regions to spare or the only ones to age, not both.")
        for names in (self.spare, self.only, self.accelerate):
            find_regions(names)

    def ageing_regions(self) -> list[Region]:
        """Return the regions that age by themselves, in the order of their indices.

        Returns
        -------
        list of Region
        """
        if self.only:
            return find_regions(self.only)
        spared = find_regions(self.spare)
        return [region for region in REGIONS if region not in spared]

    def planted_regions(self) -> list[Region]:
        """Return where the planted effect lies: what an interpretable model should point to.

        The accelerated regions where there are any; else those that age.

        Returns
        -------
        list of Region
        """
        return find_regions(self.accelerate) if self.accelerate else self.ageing_regions()

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values.

        Returns
        -------
        dict
            Values that JSON can hold, by the settings' names.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
