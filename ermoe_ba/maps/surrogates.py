"""Maps of chance that are as smooth as a given one: Moran spectral randomisation.

Any two smooth maps of a brain resemble each other somewhere, so a region's mean must be held
against maps that are smooth in the same way. Moran spectral randomisation (Wagner & Dray 2015,
Methods in Ecology and Evolution 6:1169-1178; "singleton") writes a map as a sum of patterns, from
the smoothest to the roughest (eigenvectors of the doubly centred matrix of closeness), and turns
the sign of each at random: mean, variance, spatial autocorrelation and spectrum stay exactly.

It was chosen before rotations and flips of the lattice, since a brain turned on itself leaves many
tokens without a partner and the lattice has but 48 symmetries; and before surrogates fitted to the
variogram (BrainSMASH), since one draw of signs serves all experts alike: their weights still sum to
1, and what one gains another loses, as in the data.

A map that hardly changes over a third of the brain is made of a handful of patterns, whose signs
leave few surrogates that differ: its smallest p values come out too small. Those of maps whose
correlation has faded within two or three tokens do not.

Shapes: T tokens, K patterns, E maps, R contrasts.
"""

import numpy as np

from ermoe_ba.space import Array

# Surrogates that are held in memory at a time; how many changes nothing but memory.
_BLOCK = 1000


class MoranSurrogates:
    """Surrogates of maps over one set of places.

    Parameters
    ----------
    centres_mm : ndarray, shape (T, 3)
        Where the places are, in mm.

    Raises
    ------
    ValueError
        If there are fewer than four places, or two of them coincide.
    """

    def __init__(self, centres_mm: Array) -> None:
        apart = np.linalg.norm(centres_mm[:, None] - centres_mm[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        if len(apart) < 4 or apart.min() == 0:
            raise ValueError("Surrogates need at least four places, all apart from each other.")
        closeness = 1.0 / apart
        count = len(apart)
        centred = closeness - closeness.mean(axis=0) - closeness.mean(axis=1)[:, None]
        centred += closeness.mean()
        _, vectors = np.linalg.eigh(centred)
        # One direction is constant, and no pattern: whichever vector holds most of it goes, and the
        # others are made orthogonal to it.
        constant = int(np.abs(vectors.sum(axis=0)).argmax())
        patterns = np.delete(vectors, constant, axis=1)
        self.patterns_tk, _ = np.linalg.qr(patterns - patterns.mean(axis=0))
        assert self.patterns_tk.shape == (count, count - 1)

    def draw(self, maps_te: Array, rng: np.random.Generator) -> Array:
        """Return one surrogate of maps, with the same signs for all of them, shape (T, E).

        Parameters
        ----------
        maps_te : ndarray, shape (T, E)
            Values by token, in any unit.
        rng : Generator
            Of the signs.

        Returns
        -------
        ndarray, shape (T, E)
            Of the mean and the spatial autocorrelation of each map.
        """
        coefficients_ke = self.patterns_tk.T @ maps_te
        signs_k = rng.choice([-1.0, 1.0], size=len(coefficients_ke))
        return np.asarray(
            maps_te.mean(axis=0) + self.patterns_tk @ (signs_k[:, None] * coefficients_ke)
        )

    def p_values(
        self, contrasts_rt: Array, maps_te: Array, count: int, rng: np.random.Generator
    ) -> Array:
        """Return how often a surrogate departs from its mean as far as the map does.

        Parameters
        ----------
        contrasts_rt : ndarray
            Each row weighs the places of one contrast, such as a region's mean. What it gives for
            a constant map does not count.
        maps_te : ndarray
            The maps.
        count : int
            Number of surrogates, at least 1.
        rng : Generator
            Of the signs.

        Returns
        -------
        ndarray, shape (R, E)
            Two-sided p values, from 1 / (count + 1) to 1; not corrected.
        """
        seen_rk = contrasts_rt @ self.patterns_tk
        coefficients_ke = self.patterns_tk.T @ maps_te
        observed_re = np.abs(seen_rk @ coefficients_ke)
        # Rounding must neither tell a surrogate that is the map itself from the map, nor make
        # something of a flat one.
        observed_re -= 1e-9 * (np.abs(contrasts_rt) @ np.abs(maps_te))
        reached_re = np.zeros(observed_re.shape, dtype=np.int64)
        for begin in range(0, count, _BLOCK):
            size = (self.patterns_tk.shape[1], min(_BLOCK, count - begin))
            signs_kn = rng.choice(np.array([-1.0, 1.0]), size=size)
            for expert, coefficients_k in enumerate(coefficients_ke.T):
                surrogate_rn = (seen_rk * coefficients_k) @ signs_kn
                reached_re[:, expert] += (np.abs(surrogate_rn) >= observed_re[:, expert, None]).sum(
                    axis=1
                )
        return np.asarray((1 + reached_re) / (1 + count))
