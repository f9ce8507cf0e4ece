"""From what the tokens add up to, to an age that lies between bounds.

Shapes: B scans, T tokens, E experts.
"""

import torch
from torch import Tensor, nn


class AgeCurve(nn.Module):
    """An s-shaped curve between two ages, or no curve at all.

    ``age(x) = a + (b - a) / (1 + exp(-4 (x - m) / (b - a)))``, with the bounds a and b, and m
    halfway between them: at m, a unit of the score x is a year, towards the bounds ever less, and
    no scan is older than b or younger than a. Without bounds, ``age(x) = x``.

    What a share of the score is worth in years depends on the others then. Each is given the mean
    slope of the curve between the score without any share and the score with all of them, the
    integral of the slope along the straight line from one to the other (Aumann and Shapley 1974;
    for networks Sundararajan 2017, arXiv 1703.01365): so the years of all shares add up to the age.

    Parameters
    ----------
    bounds : tuple of float
        Lowest and highest age in years, or nothing.
    """

    def __init__(self, bounds: tuple[float, ...] = ()) -> None:
        super().__init__()
        # A buffer, for tuning moves it with all else that has a place on the scale of ages.
        self.register_buffer("bounds", torch.tensor(bounds) if bounds else None)
        self.bounds: Tensor | None

    def forward(self, score: Tensor) -> Tensor:
        """Return ages from scores.

        Parameters
        ----------
        score : Tensor
            On the curve's scale, any shape.

        Returns
        -------
        Tensor
            Years, of the same shape.
        """
        if self.bounds is None:
            return score
        return self._lowest + self._width * torch.sigmoid(self._steps(score))

    def score(self, age: Tensor) -> Tensor:
        """Return the scores of ages in years: the inverse of `forward`.

        Parameters
        ----------
        age : Tensor
            Years, between the bounds.

        Returns
        -------
        Tensor
            Of the same shape.

        Raises
        ------
        ValueError
            If an age does not lie between the bounds.
        """
        if self.bounds is None:
            return age
        share = (age - self._lowest) / self._width
        if not bool(((share > 0) & (share < 1)).all()):
            low, high = self.bounds.tolist()
            raise ValueError(
                f"Ages must lie between {low:g} and {high:g} years, the model's age_bounds; found "
                f"{float(age.min()):g} to {float(age.max()):g}."
            )
        return self._middle + self._width / 4 * torch.logit(share)

    def slope(self, score: Tensor) -> Tensor:
        """Return the years that a unit more of the score adds.

        Parameters
        ----------
        score : Tensor
            Where, any shape.

        Returns
        -------
        Tensor
            Years a unit, from 0 to 1, of the same shape.
        """
        if self.bounds is None:
            return torch.ones_like(score)
        height = torch.sigmoid(self._steps(score))
        return 4 * height * (1 - height)

    def mean_slope(self, first: Tensor, last: Tensor) -> Tensor:
        """Return the mean slope between two scores, years a unit.

        Parameters
        ----------
        first, last : Tensor
            Scores, of shapes that broadcast.

        Returns
        -------
        Tensor
            ``(age(last) - age(first)) / (last - first)``, and the slope itself where they are one.
        """
        if self.bounds is None:
            return torch.ones_like(last - first)
        # tanh(u) - tanh(v) = sinh(u - v) / (cosh(u) cosh(v)): ages that lie close together are not
        # taken from each other, which would leave few digits.
        near, far = self._steps(first) / 2, self._steps(last) / 2
        apart = far - near
        parted = torch.where(apart == 0, torch.ones_like(apart), apart)
        ratio = torch.where(apart == 0, torch.ones_like(apart), torch.sinh(parted) / parted)
        close = ratio / (torch.cosh(near) * torch.cosh(far))
        # Far apart they may be, and there sinh and cosh soon exceed all numbers.
        wide = (torch.tanh(far) - torch.tanh(near)) / parted
        return torch.where(apart.abs() < 1, close, wide)

    def parted(self, baseline: Tensor, shares_bte: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ages and what they are the sum of.

        Parameters
        ----------
        baseline : Tensor, scalar
            Score without any share.
        shares_bte : Tensor
            What tokens and experts add to it.

        Returns
        -------
        Tensor, Tensor, Tensor
            Ages, shape (B,); the age at the baseline, a scalar; years of each token and expert,
            shape (B, T, E), which with the second add up to the first.
        """
        score_b = baseline + shares_bte.sum(dim=(1, 2))
        years_bte = shares_bte * self.mean_slope(baseline, score_b)[:, None, None]
        return self(score_b), self(baseline), years_bte

    def move(self, intercept: float, slope: float) -> None:
        """Put the line ``intercept + slope * age`` in the place of every age of the curve.

        The scores must be moved by the same line: then age and line change places.

        Parameters
        ----------
        intercept, slope : float
            Years, and years a year; the slope is not 0.
        """
        if self.bounds is not None:
            self.bounds.mul_(slope).add_(intercept)

    @property
    def _lowest(self) -> Tensor:
        assert self.bounds is not None
        return self.bounds[0]

    @property
    def _width(self) -> Tensor:
        assert self.bounds is not None
        return self.bounds[1] - self.bounds[0]

    @property
    def _middle(self) -> Tensor:
        assert self.bounds is not None
        return self.bounds.mean()

    def _steps(self, score: Tensor) -> Tensor:
        return 4 * (score - self._middle) / self._width
