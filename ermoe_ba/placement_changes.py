"""Changes to where a head lies, and to the lattice that it is sampled on."""

import nibabel as nib
import numpy as np
from nibabel.processing import smooth_image
from scipy.spatial.transform import Rotation

from ermoe_ba.io import to_nibabel
from ermoe_ba.resampling import resample
from ermoe_ba.space import Array, SpatialGrid, Volume

# Axis about which heads are turned on the grid: unequal parts of nodding, shaking and tilting.
_AXIS = np.array([2.0, 1.0, 3.0]) / np.sqrt(14.0)


def _moved(volume: Volume, world: Array) -> Volume:
    """Return the scan with another affine; no voxel changes."""
    grid = volume.grid
    return Volume(volume.data, SpatialGrid(grid.shape, world @ grid.affine, grid.space))


def _window(grid: SpatialGrid, first: Array, shape: Array) -> SpatialGrid:
    """Return the lattice of `grid` from the voxel `first` on, which may lie outside it."""
    origin = nib.affines.apply_affine(grid.affine, first)
    affine = nib.affines.from_matvec(grid.affine[:3, :3], origin)
    return SpatialGrid((int(shape[0]), int(shape[1]), int(shape[2])), affine, grid.space)


def _turn(degrees: float) -> Array:
    turn = Rotation.from_rotvec(_AXIS * np.deg2rad(degrees))
    return np.asarray(nib.affines.from_matvec(turn.as_matrix()))


def reorder_axes(volume: Volume, amount: float) -> Volume:
    """Save in another of the 48 axis orders and flips; `amount` is its number, from 0.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    amount : float
        Whole number from 0 to 47: six orders of the axes, eight sets of flips.

    Returns
    -------
    Volume
        The same voxels, with an affine that leaves each where it was.
    """
    number = int(amount)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    flips = [1 if number >> bit & 1 else -1 for bit in range(3)]
    orientation = np.column_stack([orders[number // 8 % 6], flips])
    turned = to_nibabel(volume).as_reoriented(orientation)
    data = np.asanyarray(turned.dataobj)
    return Volume(data, SpatialGrid(data.shape, turned.affine, volume.grid.space))


def tilt_header(volume: Volume, degrees: float) -> Volume:
    """Turn the head in the scanner by an oblique affine; no voxel changes.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    degrees : float
        Angle about an oblique axis through the origin of the world.

    Returns
    -------
    Volume
        The same values with another affine.
    """
    return _moved(volume, _turn(degrees))


def shift_origin(volume: Volume, mm: float) -> Volume:
    """Move the head in the scanner along the space diagonal; no voxel changes.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    mm : float
        How far; negative for the other way.

    Returns
    -------
    Volume
        The same values with another affine.
    """
    return _moved(volume, nib.affines.from_matvec(np.eye(3), np.full(3, mm / np.sqrt(3.0))))


def surround(volume: Volume, share: float) -> Volume:
    """Put empty voxels around the image, as conforming it to a cube does.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    share : float
        Of the image's size, on either side of each axis; at least 0.

    Returns
    -------
    Volume
        The same voxels at the same places, and zeros around them.
    """
    before = np.rint(share * np.array(volume.data.shape)).astype(int)
    data = np.pad(volume.data, [(n, n) for n in before])
    return Volume(data, _window(volume.grid, -before, np.array(data.shape)))


def turn_head(volume: Volume, degrees: float) -> Volume:
    """Turn the head in the image: voxels are interpolated, the field of view stays where it is.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    degrees : float
        Angle about an oblique axis through the middle of the image.

    Returns
    -------
    Volume
        float32, not negative, by cubic splines on a lattice of the same voxels that holds the whole
        turned image: more voxels, and another origin.
    """
    grid = volume.grid
    last = np.array(grid.shape) - 1
    about = nib.affines.from_matvec(np.eye(3), nib.affines.apply_affine(grid.affine, last / 2))
    world = about @ _turn(degrees) @ np.linalg.inv(about)
    # A lattice along the same axes that holds the whole turned image.
    ends = np.array(list(np.ndindex(2, 2, 2))) * last
    corners = nib.affines.apply_affine(world @ grid.affine, ends)
    index = nib.affines.apply_affine(np.linalg.inv(grid.affine), corners)
    low, high = np.floor(index.min(axis=0)).astype(int), np.ceil(index.max(axis=0)).astype(int)
    larger = _window(grid, low, high - low + 1)
    result = resample(_real(volume), larger, order=3, to_grid_space=world)
    return result.same_grid(np.clip(result.data, 0, None))


def thicken_slices(volume: Volume, mm: float) -> Volume:
    """Sample at 1 x 1 mm in slices of this thickness from below to above, as thick slices blur.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    mm : float
        Thickness of a slice, at least that of the scan's own; a Gaussian of which the full width
        makes up the difference blurs it.

    Returns
    -------
    Volume
        float32, in RAS+ order, voxels of 1 x 1 x `mm` mm.
    """
    canonical = nib.as_closest_canonical(to_nibabel(_real(volume)))
    step = np.asarray(nib.affines.voxel_sizes(canonical.affine))
    sizes = np.array([1.0, 1.0, mm])
    fwhm = np.sqrt(np.clip(sizes**2 - step**2, 0, None))
    smooth = smooth_image(canonical, fwhm)
    i, j, k = (int(n) for n in np.ceil(np.array(smooth.shape) * step / sizes))
    affine = canonical.affine @ np.diag([*(sizes / step), 1.0])
    data = np.asanyarray(smooth.dataobj)
    thin = Volume(data, SpatialGrid(data.shape, smooth.affine, volume.grid.space))
    return resample(thin, SpatialGrid((i, j, k), affine, volume.grid.space), order=1)


def take_slices(volume: Volume, first: float) -> Volume:
    """Keep every other slice along the first axis, from `first` (0 or 1): half the information.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    first : float
        0 or 1.

    Returns
    -------
    Volume
        Half the slices, at twice their distance.
    """
    start = int(first)
    data = volume.data[start::2]
    affine = volume.grid.affine @ np.diag([2.0, 1, 1, 1])
    affine[:3, 3] += volume.grid.affine[:3, 0] * start
    return Volume(data, SpatialGrid(data.shape, affine, volume.grid.space))


def cut_top(volume: Volume, mm: float) -> Volume:
    """Cut the image this far below the top of what it shows.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    mm : float
        From the highest voxel above 0 down, at least 0, and less than what is shown.

    Returns
    -------
    Volume
        In RAS+ order, without the slices above.
    """
    canonical = nib.as_closest_canonical(to_nibabel(volume))
    data = np.asanyarray(canonical.dataobj)
    shown = np.flatnonzero((data > 0).any(axis=(0, 1)))
    keep = int(shown[-1] + 1 - round(mm / nib.affines.voxel_sizes(canonical.affine)[2]))
    data = data[:, :, :keep]
    return Volume(data, SpatialGrid(data.shape, canonical.affine, volume.grid.space))


def blank_top(volume: Volume, mm: float) -> Volume:
    """Cut as `cut_top` does, and fill up with zeros to the shape from before.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    mm : float
        As of `cut_top`.

    Returns
    -------
    Volume
        float32, on the grid of `volume`; 0 in what was cut.
    """
    part = cut_top(volume, mm)
    return resample(_real(part), volume.grid, order=0)


def mirror(volume: Volume, _: float) -> Volume:
    """Swap left and right: the header lies about the first axis of the world.

    Parameters
    ----------
    volume : Volume
        The scan, shape (I, J, K), on its own grid.
    _ : float
        Of no use here: there is one way.

    Returns
    -------
    Volume
        The same values with an affine whose first row has the other sign.
    """
    return _moved(volume, np.diag([-1.0, 1.0, 1.0, 1.0]))


def _real(volume: Volume) -> Volume:
    return volume.same_grid(volume.data.astype(np.float32))
