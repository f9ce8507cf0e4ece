"""The trainings that a run is made of: one a fold of each repeat, or one a stem on all scans."""

from dataclasses import dataclass

from ermoe_ba.training.recipe import RunConfig


@dataclass(frozen=True)
class Part:
    """One training within a run: of a fold of a repeat, or of all scans together.

    Parameters
    ----------
    name : str
        First part of the names of its files.
    seed : int
        Of its stem and first member.
    member_step : int
        What the seed of each further member is larger by, so that no seed serves twice.
    fold : int or None
        Number of the fold; None for all scans together.
    """

    name: str
    seed: int
    member_step: int
    fold: int | None

    def member_seed(self, number: int) -> int:
        """Return the seed of a member, counted from 0.

        Parameters
        ----------
        number : int
            Of the member, from 0.

        Returns
        -------
        int
            No other member of the run has it.
        """
        return self.seed + number * self.member_step


def fold_part(run: RunConfig, fold: int, repeat: int = 0) -> Part:
    """Return a fold of a repeat as part of a run.

    Parameters
    ----------
    run : RunConfig
        Its numbers of folds and members decide about seeds.
    fold, repeat : int
        From 0.

    Returns
    -------
    Part
        Named ``fold-<k>``, in repeats after the first ``repeat-<r>_fold-<k>``.
    """
    prefix = f"repeat-{repeat}_" if repeat else ""
    seed = run.seed + fold + repeat * run.num_folds * run.num_starts
    return Part(f"{prefix}fold-{fold}", seed, run.num_folds, fold)


def whole_parts(run: RunConfig) -> list[Part]:
    """Return the trainings on all scans; their seeds come after those of all folds.

    Parameters
    ----------
    run : RunConfig
        Its numbers of repeats, folds, stems and members decide about seeds.

    Returns
    -------
    list of Part
        Named ``fold-all-<k>``, one a stem.
    """
    first = run.seed + run.num_repeats * run.num_folds * run.num_starts
    return [
        Part(f"fold-all-{stem}", first + stem, run.num_stems, None) for stem in range(run.num_stems)
    ]
