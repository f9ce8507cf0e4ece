"""What each expert is worth: its load, its years, and the error of the model without it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ermoe_ba.report.content import ReportContent, in_words

# Errors of the model that differ by less than this many years count as equal: half of the smallest
# change that a table of one decimal always shows, and far below what seeds differ by.
WORTHLESS_YEARS = 0.1
# What was done to all experts at once, as the model's card calls it, in words.
INTERFERED = {
    "zeroed": "with all experts silenced",
    "random_routing": "with random routing",
    "other_subject_routing": "with other people's routing",
}


@dataclass(frozen=True)
class ExpertRow:
    """One line of the table of experts.

    Parameters
    ----------
    name : str
        In words.
    load : float
        Mean routing weight over the scan's tokens, 0 to 1; the loads sum to 1.
    years : float
        Years that it adds to this scan's age.
    mae_without : float or None
        Mean absolute error of the model without it, in years; None where it was not measured.
    said : str
        What follows for its map, as a sentence.
    worthless : bool
        Whether the model does as well without it, or better.
    """

    name: str
    load: float
    years: float
    mae_without: float | None
    said: str
    worthless: bool


@dataclass(frozen=True)
class ExpertWorth:
    """What a model owes to its experts.

    Parameters
    ----------
    mae : float or None
        Its mean absolute error in years with all of them, out of fold; None where it was not
        measured without each.
    without : mapping of str to float
        The same without this one expert; empty where it was not measured.
    interfered : mapping of str to float
        The same by what was done to all experts at once, keys of `INTERFERED`; without what was not
        measured.
    """

    mae: float | None
    without: Mapping[str, float]
    interfered: Mapping[str, float] = field(default_factory=dict)

    @property
    def of_all(self) -> str:
        """What the model owes to its experts together and to their routing, as one sentence.

        Empty where it was not measured.
        """
        parts = [
            f"{self.interfered[name]:.1f} {words}"
            for name, words in INTERFERED.items()
            if name in self.interfered
        ]
        if self.mae is None or not parts:
            return ""
        *others, last = parts
        listed = f"{', '.join(others)} and {last}" if others else last
        return (
            f"The maps are worth what the model owes to them: its mean absolute error, "
            f"{self.mae:.1f} years out of fold on its training cohort, becomes {listed}."
        )

    def lost(self, name: str) -> float | None:
        """Return by how much the error grows without an expert.

        Parameters
        ----------
        name : str
            Of the expert.

        Returns
        -------
        float or None
            Years, below 0 where the error falls; None where it was not measured.
        """
        without = self.without.get(name)
        return None if self.mae is None or without is None else without - self.mae

    def worthless(self, name: str) -> bool:
        """Return whether the model is known to do as well without an expert, or better.

        Parameters
        ----------
        name : str
            Of the expert.

        Returns
        -------
        bool
            False where it was not measured.
        """
        lost = self.lost(name)
        return lost is not None and lost < WORTHLESS_YEARS

    def in_short(self, name: str) -> str:
        """Return what a picture's heading says of an expert: the error without it.

        Parameters
        ----------
        name : str
            Of the expert.

        Returns
        -------
        str
            No sentence.
        """
        lost = self.lost(name)
        if lost is None:
            return "worth not measured"
        without = self.without[name]
        if abs(lost) < WORTHLESS_YEARS:
            return f"MAE {without:.1f} years without it: its removal changes nothing"
        better = ": the model is better off" if lost < 0 else ""
        return f"MAE {without:.1f} years without it{better} ({self.mae:.1f} with all)"

    def in_a_sentence(self, name: str) -> str:
        """Return what follows for an expert's map.

        Parameters
        ----------
        name : str
            Of the expert.

        Returns
        -------
        str
            One or two sentences.
        """
        lost = self.lost(name)
        if lost is None:
            return "What the model owes to this expert was not measured."
        without = self.without[name]
        if abs(lost) < WORTHLESS_YEARS:
            return (
                f"Removing this expert changes nothing: the model's mean absolute error is "
                f"{without:.2f} years without it and {self.mae:.2f} with all. Read nothing into "
                "its map."
            )
        if lost < 0:
            return (
                f"The model's mean absolute error is smaller without it: {without:.2f} years "
                f"against {self.mae:.2f} with all. Read nothing into its map."
            )
        return (
            f"Without this expert the model's mean absolute error on its training cohort, out of "
            f"fold, grows from {self.mae:.1f} to {without:.1f} years."
        )


def model_worth(content: ReportContent) -> ExpertWorth:
    """Return what the model of a report owes to its experts.

    Parameters
    ----------
    content : ReportContent
        Holds the model's errors.

    Returns
    -------
    ExpertWorth
    """
    return ExpertWorth(content.model_mae, content.mae_without_expert, content.mae_interfered)


def expert_rows(content: ReportContent) -> list[ExpertRow]:
    """Return the experts in the order of their maps.

    Parameters
    ----------
    content : ReportContent
        Its experts and the model's errors.

    Returns
    -------
    list of ExpertRow
    """
    worth = model_worth(content)
    return [
        ExpertRow(
            name=in_words(name),
            load=content.expert_load[name],
            years=content.expert_years[name],
            mae_without=worth.without.get(name),
            said=worth.in_a_sentence(name),
            worthless=worth.worthless(name),
        )
        for name in content.expert_names
    ]
