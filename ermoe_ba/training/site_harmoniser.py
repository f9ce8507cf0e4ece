"""ComBat on tabular features: what sites do to mean and spread, learnt of training scans alone.

Shapes: N scans, K features.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pandas as pd

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Array


class SiteHarmoniser:
    """Bring features of several sites to a common mean and spread.

    ComBat (Johnson 2007, Biostatistics 8:118), as Fortin 2018 (NeuroImage 167:104) brought it to
    imaging: for each feature, each site has an offset and a factor, drawn towards those of the
    site's other features by empirical Bayes. They are estimated beside a linear effect of age, so
    that sites of unlike ages keep their distance. Only ages of training scans serve for that:
    offset and factor are taken from any scan alike, whatever its age.
    """

    def __init__(self) -> None:
        self.estimates: dict[str, Any] = {}
        self.sites: frozenset[str] = frozenset()
        self.varies: Array = np.zeros(0, dtype=bool)

    def fit(self, features_nk: Array, sites: Sequence[str], ages_n: Array) -> "SiteHarmoniser":
        """Learn the sites' offsets and factors.

        Parameters
        ----------
        features_nk : ndarray
            Of training scans; features that never vary are left as they are.
        sites : sequence of str
            Where each scan was made; at least two sites of two scans each.
        ages_n : ndarray
            Years.

        Returns
        -------
        SiteHarmoniser
            Itself.

        Raises
        ------
        UsageError
            If there are too few sites or scans, or the library is not installed.
        """
        try:
            from neuroCombat import neuroCombat
        except ImportError as error:
            raise UsageError("ComBat needs its library: pip install 'ermoe_ba[combat]'.") from error
        counts = pd.Series(list(sites)).value_counts()
        if len(counts) < 2 or counts.min() < 2:
            raise UsageError(
                "ComBat needs at least two sites with two training scans each; found "
                f"{', '.join(f'{site}: {count}' for site, count in counts.items())}."
            )
        self.sites = frozenset(counts.index)
        self.varies = features_nk.std(axis=0) > 0
        scans = pd.DataFrame({"site": list(sites), "age": ages_n})
        # It tells its steps on the standard output, which belongs to the command line.
        with redirect_stdout(io.StringIO()):
            found = neuroCombat(
                features_nk[:, self.varies].T, scans, "site", continuous_cols=["age"]
            )
        self.estimates = found["estimates"]
        return self

    def transform(self, features_nk: Array, sites: Sequence[str]) -> Array:
        """Return features without what their sites do to them, each scan for itself.

        Parameters
        ----------
        features_nk : ndarray
            Of any scans, those learnt from included: all are to be treated alike.
        sites : sequence of str
            Of the sites that were learnt.

        Returns
        -------
        ndarray, shape (N, K)
            In the units of the features.

        Raises
        ------
        UsageError
            If a site is new.
        """
        from neuroCombat import neuroCombatFromTraining

        new = set(sites) - self.sites
        if new:
            raise UsageError(
                f"ComBat cannot harmonise a site that it has not learnt; found {sorted(new)} among "
                "those tested alone. Leave ComBat out where sites are left out."
            )
        found = features_nk.astype(float)
        with redirect_stdout(io.StringIO()):
            moved = neuroCombatFromTraining(
                found[:, self.varies].T, np.array(sites), self.estimates
            )
        found[:, self.varies] = moved["data"].T
        return found
