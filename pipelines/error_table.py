"""A printed table of errors: each row beside a reference, over the same people."""

from collections.abc import Mapping

import numpy as np

from ermoe_ba.evaluation.bootstrap import estimates
from ermoe_ba.space import Array


def print_errors(
    predicted_of: Mapping[str, Array], ages_n: Array, people_n: Array, reference: str
) -> None:
    """Print the mean absolute error of each row and how it differs from that of one of them.

    Parameters
    ----------
    predicted_of : mapping of str to ndarray, shape (N,)
        Predicted ages in years by row.
    ages_n : ndarray
        Chronological ages in years.
    people_n : ndarray of str
        Whose they are; intervals (95 %, bootstrap) are over people.
    reference : str
        The row that the others are compared with.
    """
    reference_n = np.abs(predicted_of[reference] - ages_n)
    width = max(len(name) for name in predicted_of)
    for name, predicted_n in predicted_of.items():
        errors_n = np.abs(predicted_n - ages_n)
        pair_2n = np.stack([errors_n, errors_n - reference_n])

        def figures(weights_bn: Array, pair_2n: Array = pair_2n) -> dict[str, Array]:
            share_bn = weights_bn / weights_bn.sum(axis=-1, keepdims=True)
            return dict(zip(("mae", "difference"), (share_bn @ pair_2n.T).T, strict=True))

        found = estimates(figures, people_n)
        difference = with_interval(**found["difference"], sign="+")
        print(f"{name:{width}}  {with_interval(**found['mae'])}   {difference} years")


def with_interval(
    value: float | None, lower: float | None, upper: float | None, sign: str = ""
) -> str:
    """Return a figure as text, with its interval.

    Parameters
    ----------
    value, lower, upper : float or None
        The figure, and the ends of its interval; None where there is none, as of four people.
    sign : str
        "+" shows the sign, as that of differences.

    Returns
    -------
    str
        Two decimals, or n/a.
    """
    told, low, high = ("n/a" if x is None else f"{x:{sign}.2f}" for x in (value, lower, upper))
    return f"{told} ({low} to {high})"
