"""Sampling: values of fields between their voxels, by linear interpolation."""

import numpy as np

from ermoe_ba.space import Array


class Places:
    """Positions in a lattice, made ready for sampling any fields there.

    ``scipy.ndimage.map_coordinates`` finds neighbours and weights anew for every component, and
    takes three times as long for the three of a displacement.

    Parameters
    ----------
    where : ndarray of float32, shape (3, n)
        Positions in voxels; those beyond the lattice take the value at its edge.
    shape : tuple of int
        Of the lattice, each axis at least 2.
    """

    def __init__(self, where: Array, shape: tuple[int, ...]) -> None:
        first = np.zeros(where.shape[1], np.intp)
        parts = []
        for along, count in zip(where, shape, strict=True):
            inside = np.clip(along, 0, count - 1)
            low = np.minimum(inside.astype(np.int32), count - 2)
            parts.append(inside - low.astype(np.float32))
            first = first * count + low
        self._corners = []
        for i in (0, 1):
            for j in (0, 1):
                ahead = first + ((i * shape[1] + j) * shape[2])
                x, y, z = parts
                plane = (x if i else 1 - x) * (y if j else 1 - y)
                self._corners += [(ahead, plane * (1 - z)), (ahead + 1, plane * z)]

    def sample(self, fields: Array) -> Array:
        """Return the values of fields at the positions.

        Parameters
        ----------
        fields : ndarray, shape (c, i, j, k)
            On the lattice.

        Returns
        -------
        ndarray of float32, shape (c, n)
            In the unit of the fields.
        """
        flat = fields.reshape(len(fields), -1)
        at, weight = self._corners[0]
        values = flat.take(at, axis=1) * weight
        for at, weight in self._corners[1:]:
            values += flat.take(at, axis=1) * weight
        return np.asarray(values, dtype=np.float32)


def nearest(where: Array, shape: tuple[int, ...]) -> Array:
    """Return the voxels nearest to positions.

    Parameters
    ----------
    where : ndarray, shape (3, n)
        Positions in voxels; those beyond the lattice take the voxel at its edge.
    shape : tuple of int
        Of the lattice.

    Returns
    -------
    ndarray of int32, shape (n,)
        Flat indices.
    """
    i, j, k = (
        np.clip(np.rint(along), 0, count - 1).astype(np.int32)
        for along, count in zip(where, shape, strict=True)
    )
    return np.asarray((i * shape[1] + j) * shape[2] + k)


def interpolation_matrix(positions: Array, count: int) -> Array:
    """Return the matrix that samples one axis of a lattice at positions on it.

    Parameters
    ----------
    positions : ndarray, shape (n,)
        In voxels of the lattice.
    count : int
        Voxels of its axis.

    Returns
    -------
    ndarray, shape (n, count)
        Two neighbours in each row; the end values beyond the ends.
    """
    inside = np.clip(positions, 0, count - 1)
    low = np.minimum(inside.astype(int), count - 2)
    matrix = np.zeros((len(positions), count), np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = 1 - (inside - low)
    matrix[rows, low + 1] = inside - low
    return matrix


def sample_separably(field: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """Sample a field on the lattice that three matrices give.

    Parameters
    ----------
    field : ndarray, shape (i, j, k)
        Any values.
    matrices : tuple of ndarray
        From `interpolation_matrix`, one an axis; of shapes (a, i), (b, j) and (c, k).

    Returns
    -------
    ndarray, shape (a, b, c)
        In the unit of the field.
    """
    for matrix in matrices:
        # Each product takes the first axis and puts the new one last: three restore the order.
        field = np.tensordot(field, matrix, axes=(0, 1))
    return np.asarray(field)
