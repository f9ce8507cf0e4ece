"""What each expert is worth: its load, its years, and the error of the model without it."""

from dataclasses import dataclass

from ermoe_ba.report.content import ReportContent, in_words

# Errors of the model that differ by less than this many years count as equal: half of the smallest
# change that a table of one decimal always shows, and far below what seeds differ by.
WORTHLESS_YEARS = 0.1


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


def expert_rows(content: ReportContent) -> list[ExpertRow]:
    """Return the experts in the order of their maps.

    Parameters
    ----------
    content : ReportContent
        Its experts and the model's errors.
    """
    rows = []
    for name in content.expert_names:
        without = content.mae_without_expert.get(name)
        rows.append(
            ExpertRow(
                name=in_words(name),
                load=content.expert_load[name],
                years=content.expert_years[name],
                mae_without=without,
                said=_in_a_sentence(content.model_mae, without),
                worthless=content.model_mae is not None
                and without is not None
                and without - content.model_mae < WORTHLESS_YEARS,
            )
        )
    return rows


def short_verdict(content: ReportContent, name: str) -> str:
    """Return what a picture's heading says of an expert: the error without it."""
    mae, without = content.model_mae, content.mae_without_expert.get(name)
    if mae is None or without is None:
        return "worth not measured"
    if _worthless(mae, without):
        return f"MAE {without:.1f} years without it: its removal changes nothing"
    better = "the model is better off " if without < mae else ""
    return (
        f"MAE {without:.1f} years without it{': ' if better else ' '}{better}({mae:.1f} with all)"
    )


def _worthless(mae: float, without: float) -> bool:
    return abs(without - mae) < WORTHLESS_YEARS


def _in_a_sentence(mae: float | None, without: float | None) -> str:
    if mae is None or without is None:
        return "What the model owes to this expert was not measured."
    if _worthless(mae, without):
        return (
            f"Removing this expert changes nothing: the model's mean absolute error is "
            f"{without:.2f} years without it and {mae:.2f} with all. Read nothing into its map."
        )
    if without < mae:
        return (
            f"The model's mean absolute error is smaller without it: {without:.2f} years against "
            f"{mae:.2f} with all. Read nothing into its map."
        )
    return (
        f"Without this expert the model's mean absolute error on its training cohort, out of fold, "
        f"grows from {mae:.1f} to {without:.1f} years."
    )
