"""Patches of the model grid that hold brain: the lattice on which the network thinks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.ndimage import distance_transform_edt

from ermoe_ba.space import Array, SpatialGrid, Volume


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """Cubic patches over a grid, and which of them are tokens.

    The grid is padded at both ends of each axis to a multiple of the patch (the odd voxel at the
    far end), so no plane is dropped.

    Parameters
    ----------
    grid : SpatialGrid
        The voxels.
    patch_size : int
        Edge of a patch in voxels.
    positions : ndarray of int, shape (T, 3)
        Lattice index of each token, in C order.
    region_shares : mapping of str to ndarray, shape (T,)
        By name, regions known to the tokens, and which share of each token's voxels they fill, 0 to
        1. Tokens that lie alike are equal whatever regions they know.
    """

    grid: SpatialGrid
    patch_size: int
    positions: Array
    region_shares: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def over(cls, brain_mask: Volume, patch_size: int, min_fraction: float) -> "TokenGrid":
        """Make tokens of all patches that hold enough brain.

        Parameters
        ----------
        brain_mask : Volume
            1 in the brain.
        patch_size : int
            Edge of a patch in voxels, at least 1.
        min_fraction : float
            A patch is a token if more than this fraction of its voxels is brain (0 to 1).

        Returns
        -------
        TokenGrid
            With at least one token.

        Raises
        ------
        ValueError
            If no patch holds that much brain or the patch has no size.
        """
        if patch_size < 1:
            raise ValueError(f"A patch needs at least one voxel an edge; found {patch_size}.")
        everywhere = cls(brain_mask.grid, patch_size, np.zeros((0, 3), dtype=np.int64))
        fraction = everywhere.pool(brain_mask.data > 0)
        positions = np.argwhere(fraction > min_fraction)
        if not len(positions):
            raise ValueError(f"No patch holds more than {min_fraction:g} of brain.")
        return cls(brain_mask.grid, patch_size, positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenGrid):
            return NotImplemented
        return (
            self.grid == other.grid
            and self.patch_size == other.patch_size
            and np.array_equal(self.positions, other.positions)
        )

    def __hash__(self) -> int:
        return hash((self.grid, self.patch_size, len(self)))

    @property
    def lattice_shape(self) -> tuple[int, int, int]:
        """Patches along i, j, k."""
        i, j, k = (-(-n // self.patch_size) for n in self.grid.shape)
        return i, j, k

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Voxels added before and after the grid along i, j, k."""
        extra = [
            patches * self.patch_size - n
            for patches, n in zip(self.lattice_shape, self.grid.shape, strict=True)
        ]
        i, j, k = ((e // 2, e - e // 2) for e in extra)
        return i, j, k

    @cached_property
    def centres_mm(self) -> Array:
        """Centre of each token in RAS+ coordinates (mm), shape (T, 3)."""
        before = np.array([low for low, _ in self.padding])
        ijk = (self.positions + 0.5) * self.patch_size - 0.5 - before
        return np.asarray(ijk @ self.grid.affine[:3, :3].T + self.grid.affine[:3, 3])

    @cached_property
    def numbers(self) -> Volume:
        """Token of each voxel, counted from 1, 0 where there is none: int32, on the grid."""
        return self.to_volume(np.arange(1, len(self) + 1, dtype=np.int32))

    @cached_property
    def nearest(self) -> Volume:
        """Token of each voxel, or of the nearest voxel that has one: int32 from 1, on the grid."""
        outside = self.numbers.data == 0
        found = distance_transform_edt(outside, return_distances=False, return_indices=True)
        i, j, k = np.asarray(found)
        return Volume(self.numbers.data[i, j, k], self.grid)

    @property
    def lattice(self) -> SpatialGrid:
        """The patches as voxels of their own, tokens or not, in the space of the grid."""
        p, before = self.patch_size, np.array([low for low, _ in self.padding])
        # In voxels of the grid: steps of one patch, and where the middle of the first one lies.
        patches = np.diag([p, p, p, 1.0])
        patches[:3, 3] = (p - 1) / 2 - before
        return SpatialGrid(self.lattice_shape, self.grid.affine @ patches, self.grid.space)

    def pool(self, data: Array) -> Array:
        """Average voxels over each patch, padding counted as 0.

        Parameters
        ----------
        data : ndarray, shape (I, J, K)
            Values on the grid.

        Returns
        -------
        ndarray, shape lattice_shape
            float64 means.
        """
        padded = np.pad(np.asarray(data, dtype=np.float64), self.padding)
        p, (i, j, k) = self.patch_size, self.lattice_shape
        return np.asarray(padded.reshape(i, p, j, p, k, p).mean(axis=(1, 3, 5)))

    def held_ml(self, mask: Volume) -> Array:
        """Return how much of a mask each token holds in millilitres, shape (T,).

        Parameters
        ----------
        mask : Volume
            Not 0 inside, on the grid.

        Returns
        -------
        ndarray, shape (T,)
            From 0 to the volume of a patch.

        Raises
        ------
        ValueError
            If the mask lies on another grid.
        """
        patch_ml = self.patch_size**3 * self.grid.voxel_volume_ml
        return np.asarray(self.held_share(mask) * patch_ml)

    def held_share(self, mask: Volume) -> Array:
        """Return which share of each token's voxels lies in a mask, padding counted as outside.

        Parameters
        ----------
        mask : Volume
            Not 0 inside, on the grid.

        Returns
        -------
        ndarray, shape (T,)
            0 to 1.

        Raises
        ------
        ValueError
            If the mask lies on another grid.
        """
        if mask.grid != self.grid:
            raise ValueError(f"The mask lies in {mask.grid.space}, not on the token grid.")
        return np.asarray(self.pool(mask.data > 0)[tuple(self.positions.T)])

    def to_volume(self, values: Array) -> Volume:
        """Give each voxel its token's value.

        Parameters
        ----------
        values : ndarray, shape (T,) or (T, channels)
            One value, or several, a token.

        Returns
        -------
        Volume
            On the grid; 0 where no token is.
        """
        lattice = self.to_lattice(values).data
        for axis in range(3):
            lattice = np.repeat(lattice, self.patch_size, axis=axis)
        inside = tuple(
            slice(low, low + n) for (low, _), n in zip(self.padding, self.grid.shape, strict=True)
        )
        return Volume(lattice[inside], self.grid)

    def to_lattice(self, values: Array) -> Volume:
        """Lay values out with one voxel a patch.

        Parameters
        ----------
        values : ndarray, shape (T,) or (T, channels)
            One value, or several, a token.

        Returns
        -------
        Volume
            On `lattice`; 0 where no token is.

        Raises
        ------
        ValueError
            If there are not as many values as tokens.
        """
        if len(values) != len(self):
            raise ValueError(f"There are {len(self)} tokens; found {len(values)} values.")
        data = np.zeros((*self.lattice_shape, *values.shape[1:]), dtype=values.dtype)
        data[tuple(self.positions.T)] = values
        return Volume(data, self.lattice)

    @classmethod
    def from_lattice(cls, occupied: Volume, grid: SpatialGrid) -> "TokenGrid":
        """Return the tokens that `to_lattice` laid out.

        Parameters
        ----------
        occupied : Volume
            On the lattice; not 0 where a token is.
        grid : SpatialGrid
            The voxels that the patches are made of.

        Returns
        -------
        TokenGrid
            Over `grid`.

        Raises
        ------
        ValueError
            If the volume is no lattice of patches over the grid, or has no token.
        """
        ratio = occupied.grid.voxel_sizes / grid.voxel_sizes
        tokens = cls(grid, max(round(float(ratio[0])), 1), np.argwhere(occupied.data != 0))
        if tokens.lattice != occupied.grid:
            raise ValueError(
                f"A lattice of patches must lie on the grid of {grid.space}; found "
                f"{occupied.grid.describe()}."
            )
        if not len(tokens):
            raise ValueError("A lattice must have at least one token.")
        return tokens
