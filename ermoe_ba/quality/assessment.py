"""The verdict on a scan: which flags it bears, and whether an age may be given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ermoe_ba.quality.limits import Limit

# Figures that a brain without skull cannot be judged by: its outline is where its image ends.
_OF_WHOLE_HEADS = ("mask_touches_border",)
EXTRACTED = "brain_already_extracted"
AGE_FLAG = "age_outside_training"

# What a figure beyond its limit means, and what to do; shown where an age is refused. Of several,
# the first is told: half a brain does not register well either, whatever its contrast.
_REASONS = {
    "several_heads": (
        "the image must show one head, or nothing tells whose age is meant",
        "Crop the image to one head.",
    ),
    "mask_touches_border": (
        "the field of view must hold the whole brain",
        "Give a scan that is not cut.",
    ),
    "registration_doubtful": (
        "the image must look like a brain once it is registered",
        "Check that it is a T1w scan of a head and that its header's orientation is right.",
    ),
    "contrast_low": (
        "white matter must be brighter than grey matter (T1 weighting)",
        "Give a T1-weighted scan, whose background must be 0 or as dark as its air: where it was "
        "padded with less (-1000, as in CT) and resampled, pad it with 0.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure against one limit.

    Parameters
    ----------
    limit : Limit
        The limit.
    value : float
        What was measured.
    """

    limit: Limit
    value: float

    @property
    def outcome(self) -> str:
        """``ok``, ``flagged`` or ``refused``."""
        if self.limit.refuses(self.value):
            return "refused"
        return "flagged" if self.limit.flags(self.value) else "ok"

    def describe(self) -> dict[str, Any]:
        """Return the check as plain values for JSON.

        Returns
        -------
        dict
            ``flag``, ``figure``, ``value``, ``side``, ``flag_at``, ``refuse_at`` (None where it
            refuses nothing) and ``outcome``.
        """
        return {
            "flag": self.limit.flag,
            "figure": self.limit.figure,
            "value": self.value,
            "side": self.limit.side,
            "flag_at": self.limit.flag_at,
            "refuse_at": self.limit.refuse_at,
            "outcome": self.outcome,
        }

    def refusal(self) -> dict[str, str]:
        """Return what must hold, what was found and what to do, where an age is refused.

        Returns
        -------
        dict of str to str
            The arguments of `ScanError`, but for the file.
        """
        must_hold, remedy = _REASONS[self.limit.flag]
        word = "at least" if self.limit.side == "low" else "at most"
        return {
            "must_hold": must_hold,
            "found": f"{self.limit.figure} {self.value:.4g}, where {word} "
            f"{self.limit.refuse_at:.4g} is due",
            "remedy": f"{remedy} To have an age all the same, give --force.",
        }


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """All checks of one scan.

    Parameters
    ----------
    checks : tuple of Check
        In the order of the limits.
    remarks : tuple of str
        Flags that rest on no figure.
    """

    checks: tuple[Check, ...]
    remarks: tuple[str, ...]

    @property
    def flags(self) -> tuple[str, ...]:
        """Words of the column ``qc_flags``, each once."""
        raised = (check.limit.flag for check in self.checks if check.outcome != "ok")
        return tuple(dict.fromkeys([*self.remarks, *raised]))

    @property
    def refusing(self) -> Check | None:
        """The check that forbids an age, or None; of several, the likeliest cause of the others."""
        refused = [check for check in self.checks if check.outcome == "refused"]
        return min(refused, key=lambda check: list(_REASONS).index(check.limit.flag), default=None)


def assess(
    limits: tuple[Limit, ...], figures: Mapping[str, float], remarks: tuple[str, ...]
) -> Assessment:
    """Hold a scan's figures against the limits.

    Parameters
    ----------
    limits : tuple of Limit
        Of every figure.
    figures : mapping of str to float
        Measured; a limit whose figure is absent is not checked.
    remarks : tuple of str
        Flags of the preprocessing.

    Returns
    -------
    Assessment
    """
    return Assessment(
        checks=tuple(
            Check(limit=_for_extracted(limit) if EXTRACTED in remarks else limit, value=value)
            for limit in limits
            if (value := figures.get(limit.figure)) is not None
        ),
        remarks=remarks,
    )


def _for_extracted(limit: Limit) -> Limit:
    """Return the limit of a brain without skull, which may touch the border but not be cut."""
    if limit.flag not in _OF_WHOLE_HEADS or limit.refuse_at is None:
        return limit
    return Limit(
        flag=limit.flag,
        figure=limit.figure,
        side=limit.side,
        flag_at=limit.refuse_at,
        refuse_at=limit.refuse_at,
    )


def age_limits(youngest: float, oldest: float) -> tuple[Limit, Limit]:
    """Return the limits of chronological age, both in years: those of the training cohort.

    Parameters
    ----------
    youngest, oldest : float
        Years.

    Returns
    -------
    tuple of Limit
        The lower one first; they flag and refuse nothing.
    """
    return (
        Limit(flag=AGE_FLAG, figure="chronological_age", side="low", flag_at=youngest),
        Limit(flag=AGE_FLAG, figure="chronological_age", side="high", flag_at=oldest),
    )
