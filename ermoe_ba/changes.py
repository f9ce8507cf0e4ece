"""Changes to a head: re-saved, moved, degraded or spoilt, to test what becomes of its age.

Each takes a scan on its own grid and gives another; amounts are in the units that its name says.
"""

from collections.abc import Callable

import nibabel as nib
import numpy as np
from nibabel.processing import smooth_image
from scipy.ndimage import rotate, shift
from scipy.spatial.transform import Rotation

from ermoe_ba.io import to_nibabel
from ermoe_ba.resampling import resample
from ermoe_ba.space import Array, SpatialGrid, Volume

Change = Callable[[Volume, float, np.random.Generator], Volume]

# Axis about which heads are turned on the grid: unequal parts of nodding, shaking and tilting.
_AXIS = np.array([2.0, 1.0, 3.0]) / np.sqrt(14.0)


def bright(volume: Volume) -> float:
    """Return the scan's brightness, the unit of noise: the 98th percentile of what is not 0."""
    shown = volume.data[volume.data > 0]
    return float(np.percentile(shown, 98)) if shown.size else 1.0


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


def reorder_axes(volume: Volume, amount: float, _: np.random.Generator) -> Volume:
    """Save in another of the 48 axis orders and flips; `amount` is its number, from 0."""
    number = int(amount)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    flips = [1 if number >> bit & 1 else -1 for bit in range(3)]
    orientation = np.column_stack([orders[number // 8 % 6], flips])
    turned = to_nibabel(volume).as_reoriented(orientation)
    data = np.asanyarray(turned.dataobj)
    return Volume(data, SpatialGrid(data.shape, turned.affine, volume.grid.space))


def tilt_header(volume: Volume, degrees: float, _: np.random.Generator) -> Volume:
    """Turn the head in the scanner by an oblique affine; no voxel changes."""
    return _moved(volume, _turn(degrees))


def shift_origin(volume: Volume, mm: float, _: np.random.Generator) -> Volume:
    """Move the head in the scanner along the space diagonal; no voxel changes."""
    return _moved(volume, nib.affines.from_matvec(np.eye(3), np.full(3, mm / np.sqrt(3.0))))


def scale_values(volume: Volume, factor: float, _: np.random.Generator) -> Volume:
    """Multiply all intensities."""
    return volume.same_grid((volume.data * np.float64(factor)).astype(np.float32))


def offset_values(volume: Volume, share: float, _: np.random.Generator) -> Volume:
    """Lower all intensities by a share of the brightness, so that some are negative."""
    return volume.same_grid((volume.data - share * bright(volume)).astype(np.float32))


def turn_head(volume: Volume, degrees: float, _: np.random.Generator) -> Volume:
    """Turn the head in the image: voxels are interpolated, the field of view stays where it is."""
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


def thicken_slices(volume: Volume, mm: float, _: np.random.Generator) -> Volume:
    """Sample at 1 x 1 mm in slices of this thickness from below to above, as thick slices blur."""
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


def add_noise(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Add Rician noise; `share` is the deviation of each channel relative to the brightness."""
    sd = share * bright(volume)
    real, imaginary = rng.normal(0, sd, (2, *volume.data.shape))
    return volume.same_grid(np.hypot(volume.data + real, imaginary).astype(np.float32))


def add_bias(volume: Volume, strength: float, _: np.random.Generator) -> Volume:
    """Darken from one corner of the image to the other by a factor of ``exp(2 strength)``."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.data.shape), indexing="ij")
    field = np.exp(strength * (axes[0] - axes[1] + axes[2]) / 3)
    return volume.same_grid((volume.data * field).astype(np.float32))


def bend_contrast(volume: Volume, exponent: float, _: np.random.Generator) -> Volume:
    """Raise intensities, relative to the brightness, to a power: above 1 grey matter darkens."""
    unit = bright(volume)
    shares = np.clip(volume.data, 0, None) / np.float64(unit)
    return volume.same_grid((unit * shares**exponent).astype(np.float32))


def blur(volume: Volume, fwhm_mm: float, _: np.random.Generator) -> Volume:
    """Blur by a Gaussian of this full width at half maximum."""
    smooth = smooth_image(to_nibabel(_real(volume)), fwhm_mm)
    return volume.same_grid(np.asanyarray(smooth.dataobj))


def take_slices(volume: Volume, first: float, _: np.random.Generator) -> Volume:
    """Keep every other slice along the first axis, from `first` (0 or 1): half the information."""
    start = int(first)
    data = volume.data[start::2]
    affine = volume.grid.affine @ np.diag([2.0, 1, 1, 1])
    affine[:3, 3] += volume.grid.affine[:3, 0] * start
    return Volume(data, SpatialGrid(data.shape, affine, volume.grid.space))


def invert(volume: Volume, _: float, __: np.random.Generator) -> Volume:
    """Turn the contrast of the head upside down; air stays 0."""
    top = float(np.percentile(volume.data, 99.9))
    flipped = np.where(volume.data > 0, np.clip(top - volume.data, 1e-3 * top, None), 0)
    return volume.same_grid(flipped.astype(np.float32))


def cut_top(volume: Volume, mm: float, _: np.random.Generator) -> Volume:
    """Cut the image this far below the top of what it shows."""
    canonical = nib.as_closest_canonical(to_nibabel(volume))
    data = np.asanyarray(canonical.dataobj)
    shown = np.flatnonzero((data > 0).any(axis=(0, 1)))
    keep = int(shown[-1] + 1 - round(mm / nib.affines.voxel_sizes(canonical.affine)[2]))
    data = data[:, :, :keep]
    return Volume(data, SpatialGrid(data.shape, canonical.affine, volume.grid.space))


def blank_top(volume: Volume, mm: float, rng: np.random.Generator) -> Volume:
    """Cut as `cut_top` does, and fill up with zeros to the shape from before."""
    part = cut_top(volume, mm, rng)
    return resample(_real(part), volume.grid, order=0)


def mirror(volume: Volume, _: float, __: np.random.Generator) -> Volume:
    """Swap left and right: the header lies about the first axis of the world."""
    return _moved(volume, np.diag([-1.0, 1.0, 1.0, 1.0]))


def ghost(volume: Volume, share: float, _: np.random.Generator) -> Volume:
    """Add the image moved by half the field of view along the first axis."""
    moved = np.roll(volume.data, volume.data.shape[0] // 2, axis=0)
    return volume.same_grid((volume.data + share * moved).astype(np.float32))


def move_head(volume: Volume, degrees: float, _: np.random.Generator) -> Volume:
    """Let the head nod and sink during the scan: blocks of k-space lines alternate between poses.

    Sixteen blocks, the middle one (the image's brightness) at rest, every other one turned by
    `degrees` and moved by as many voxels.
    """
    turned = rotate(volume.data.astype(np.float32), degrees, axes=(0, 1), reshape=False, order=1)
    other = shift(turned, (degrees / 2, degrees / 2, 0), order=1)
    space, elsewhere = (np.fft.fftshift(np.fft.fftn(v), axes=0) for v in (volume.data, other))
    block = np.arange(len(space)) * 16 // len(space)
    spoilt = (block % 2 == 1) & (np.abs(block - 7.5) > 1)
    space[spoilt] = elsewhere[spoilt]
    image = np.abs(np.fft.ifftn(np.fft.ifftshift(space, axes=0)))
    return volume.same_grid(image.astype(np.float32))


def empty(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Leave nothing but noise."""
    return add_noise(volume.same_grid(np.zeros_like(volume.data, np.float32)), share, rng)


def ball(volume: Volume, radius_mm: float, rng: np.random.Generator) -> Volume:
    """Put an even ball in the place of the head, as scanners are tested with."""
    centre = (np.array(volume.data.shape) - 1) / 2
    offsets = np.indices(volume.data.shape) - centre.reshape(3, 1, 1, 1)
    away = np.sqrt(((offsets * volume.grid.voxel_sizes.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
    inside = volume.same_grid(np.where(away < radius_mm, bright(volume), 0).astype(np.float32))
    return add_noise(inside, 0.02, rng)


def _real(volume: Volume) -> Volume:
    return volume.same_grid(volume.data.astype(np.float32))


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        reorder_axes, tilt_header, shift_origin, scale_values, offset_values, turn_head,
        thicken_slices, add_noise, add_bias, bend_contrast, blur, take_slices, invert, cut_top,
        blank_top, mirror, ghost, move_head, empty, ball,
    )
}  # fmt: skip
