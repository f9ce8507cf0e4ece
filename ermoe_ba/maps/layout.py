"""Where the tokens of one scan lie on voxels: of the model grid, or of the scan itself.

Shapes: T tokens, E experts, I J K voxels.
"""

from dataclasses import dataclass

import numpy as np

from ermoe_ba.resampling import resample
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid


@dataclass(frozen=True)
class TokenPlaces:
    """Which token each voxel of a scan answers to.

    Parameters
    ----------
    tokens : TokenGrid
        The tokens.
    serving : Volume
        int32, shape (I, J, K); the token, counted from 1, whose experts serve a voxel: in the brain
        its own or, where it has none, the nearest. 0 outside the brain.
    bearing : Volume
        int32, shape (I, J, K); the token, counted from 1, whose years a voxel bears: its own, in
        the brain; where a token has no brain in this scan, all its voxels. 0 elsewhere.
    """

    tokens: TokenGrid
    serving: Volume
    bearing: Volume

    @classmethod
    def of(cls, tokens: TokenGrid, brain_mask: Volume) -> "TokenPlaces":
        """Find the places of tokens in a scan.

        Parameters
        ----------
        tokens : TokenGrid
            Where the tokens lie.
        brain_mask : Volume
            1 in the scan's brain, on the token grid.

        Returns
        -------
        TokenPlaces
            On the token grid.

        Raises
        ------
        ValueError
            If the mask lies on another grid.
        """
        if brain_mask.grid != tokens.grid:
            raise ValueError(f"The mask lies in {brain_mask.grid.space}, not on the token grid.")
        number, brain = tokens.numbers.data, brain_mask.data > 0
        reached = np.bincount(number[brain], minlength=len(tokens) + 1) > 0
        bears = brain | ~reached[number]
        return cls(
            tokens,
            brain_mask.same_grid(np.where(brain, tokens.nearest.data, 0)),
            brain_mask.same_grid(np.where(bears, number, 0)),
        )

    def on_scan(self, scan: SpatialGrid, scan_to_template: Array) -> "TokenPlaces":
        """Return the places on the grid of the scan itself.

        Each voxel of the scan answers to the token at its centre (nearest neighbour): tokens are
        blocks, so anything smoother would invent a transition between them.

        Parameters
        ----------
        scan : SpatialGrid
            The scan's own grid.
        scan_to_template : ndarray, shape (4, 4)
            Affine from the scan's RAS+ coordinates to the template's, in mm.

        Returns
        -------
        TokenPlaces
            On `scan`; 0 where the scan reaches beyond the model grid.
        """
        back = np.linalg.inv(scan_to_template)
        return TokenPlaces(
            self.tokens,
            resample(self.serving, scan, order=0, to_grid_space=back),
            resample(self.bearing, scan, order=0, to_grid_space=back),
        )

    def weights(self, weights_te: Array) -> Volume:
        """Lay the routing weights out.

        Parameters
        ----------
        weights_te : ndarray
            Routing weights, summing to 1 over the experts.

        Returns
        -------
        Volume
            float32, shape (I, J, K, E); sums to 1 over the last axis in the brain, 0 outside.
        """
        nobody = np.zeros((1, weights_te.shape[1]), dtype=np.float32)
        by_number = np.concatenate([nobody, weights_te.astype(np.float32)])
        return self.serving.same_grid(by_number[self.serving.data])

    def winners(self, weights_te: Array) -> Volume:
        """Lay out which expert weighs most.

        Parameters
        ----------
        weights_te : ndarray
            Routing weights.

        Returns
        -------
        Volume
            uint8, shape (I, J, K); number of the expert, counted from 1 (of equals, the first), 0
            outside the brain.
        """
        by_number = np.concatenate([[0], weights_te.argmax(axis=1) + 1]).astype(np.uint8)
        return self.serving.same_grid(by_number[self.serving.data])

    def years(self, years_t: Array) -> Volume:
        """Lay contributions out so that voxels add up to what tokens add up to.

        A token's years are spread evenly over its voxels. Where it has none, since it lies beyond
        the scan's field of view, the nearest token that has some bears its years as well.

        Parameters
        ----------
        years_t : ndarray
            Years that each token contributes.

        Returns
        -------
        Volume
            Years per voxel, float32; the sum over voxels is the sum over tokens.

        Raises
        ------
        ValueError
            If no token has a voxel.
        """
        voxels = np.bincount(self.bearing.data.ravel(), minlength=len(self.tokens) + 1)[1:]
        present = np.flatnonzero(voxels)
        if not len(present):
            raise ValueError("No token has a voxel here: years would be lost.")
        years = np.array(years_t, dtype=np.float64)
        centres = self.tokens.centres_mm
        for lost in np.flatnonzero(voxels == 0):
            apart = ((centres[present] - centres[lost]) ** 2).sum(axis=1)
            years[present[apart.argmin()]] += years[lost]
        share = np.zeros(len(self.tokens) + 1, dtype=np.float32)
        share[1 + present] = years[present] / voxels[present]
        return self.bearing.same_grid(share[self.bearing.data])


def expert_map(weights_te: Array, tokens: TokenGrid, brain_mask: Volume) -> Volume:
    """Lay routing weights out on the brain: `TokenPlaces.weights` on the token grid.

    Parameters
    ----------
    weights_te : ndarray, shape (T, E)
        Routing weights, 0 to 1; each token's sum to 1.
    tokens : TokenGrid
        Of T tokens.
    brain_mask : Volume
        1 in the brain, on the grid of the tokens.

    Returns
    -------
    Volume
        float32, shape (I, J, K, E); sums to 1 in the brain, 0 outside.
    """
    return TokenPlaces.of(tokens, brain_mask).weights(weights_te)


def contribution_map(years_t: Array, tokens: TokenGrid, brain_mask: Volume) -> Volume:
    """Lay contributions out on the brain: `TokenPlaces.years` on the token grid.

    Parameters
    ----------
    years_t : ndarray, shape (T,)
        Years that each token adds.
    tokens : TokenGrid
        Of T tokens.
    brain_mask : Volume
        1 in the brain, on the grid of the tokens.

    Returns
    -------
    Volume
        float32, years by voxel, with the sum of `years_t`; 0 outside the brain.
    """
    return TokenPlaces.of(tokens, brain_mask).years(years_t)
