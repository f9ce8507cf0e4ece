"""Label maps: people's own brains as anatomies, with their own folds and, where labelled, heads."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import smooth_image
from scipy.ndimage import center_of_mass

from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.formats import is_volume, volume_stem
from ermoe_ba.io import read_volume, to_nibabel
from ermoe_ba.phantom.anatomy import (
    FULL,
    MARGIN,
    Anatomy,
    even_box,
    muse_regions,
    nearest_label,
)
from ermoe_ba.phantom.regions import REGIONS, SOLIDS, SULCAL_CSF_INDEX, Kind, indices
from ermoe_ba.resampling import resample
from ermoe_ba.space import MODEL_GRID, Array, Volume

# Labels that only one of the two schemes has: MUSE's frontal white matter and middle frontal gyri;
# FreeSurfer's cerebral white matter and cortex, left and right.
MUSE_SIGNS, ASEG_SIGNS = {81, 82, 142, 143}, {2, 3, 41, 42}
ASEG_WHITE, ASEG_CORTEX = (2, 41, 25, 57), (3, 42)
# Both schemes keep the cerebellum's white matter apart.
CEREBELLAR_WHITE = {"muse": (40, 41), "aseg": (7, 46)}
# Of SynthSeg's classes outside the cavity; smaller numbers are the brain's and its fluid's.
FIRST_HEAD_LABEL = 500
# A label map must share so many regions with the atlas to be laid over it.
MIN_LANDMARKS = 8


def find_label_maps(path: Path) -> tuple[Path, ...]:
    """Return a label map, or those directly inside a folder, in order.

    Parameters
    ----------
    path : Path
        A label map, or a folder of them.

    Returns
    -------
    tuple of Path
        At least one.

    Raises
    ------
    UsageError
        If there is none.
    """
    files = sorted(p for p in path.iterdir() if is_volume(p)) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UsageError(
            f"{path}: --anatomies must be a label map or a folder of them; found none."
        )
    return tuple(files)


def read_label_map(path: Path, atlas: Volume, *, head: bool = False) -> Anatomy:
    """Make an anatomy of one person's label map.

    It is laid over the template by the affine that fits the centres of its regions to the atlas's
    best. What its labels do not tell apart (lobes in FreeSurfer's) the atlas does.

    Parameters
    ----------
    path : Path
        NIfTI, labelled by MUSE, or by FreeSurfer or SynthSeg, on any grid with a usable affine.
    atlas : Volume
        MUSE labels on the model grid.
    head : bool
        Whether what lies outside the cavity is wanted as well.

    Returns
    -------
    Anatomy

    Raises
    ------
    ScanError
        If the labels are of neither kind, too few regions are found, or no head is.
    """
    volume = read_volume(path, "scan")
    labels = np.rint(np.asarray(volume.data, dtype=np.float32)).astype(np.int32)
    found = set(np.unique(labels).tolist())
    if found >= MUSE_SIGNS:
        scheme = "muse"
    elif found >= ASEG_SIGNS:
        scheme = "aseg"
    else:
        raise ScanError(
            path,
            must_hold="a label map must be labelled by MUSE, FreeSurfer or SynthSeg",
            found=f"neither scheme's cerebral labels among {len(found)} labels",
            remedy="Give a segmentation of the whole brain.",
        )
    if head and max(found) < FIRST_HEAD_LABEL:
        raise ScanError(
            path,
            must_hold="label maps for heads must have labels outside the brain (500 and above)",
            found=f"labels up to {max(found)}",
            remedy="Leave --head out, or give SynthSeg's training label maps.",
        )
    atlas_regions = muse_regions(atlas.data)
    cavity = (labels > 0) & (labels < FIRST_HEAD_LABEL)
    # Only the cavity is looked at closely: heads are three times as large.
    close, grid = even_box(volume.same_grid(cavity), MARGIN)
    near = Volume(labels[close], grid)
    own = muse_regions(near.data) if scheme == "muse" else _aseg_regions(near.data)
    to_template = _fit(path, near.same_grid(own), atlas.same_grid(atlas_regions))
    regions = resample(near.same_grid(own), MODEL_GRID, order=0, to_grid_space=to_template).data
    tissues = _tissues(near.data, own, cavity[close], scheme)
    parts = [_soften(near.same_grid(part), to_template).data for part in tissues]
    total = np.sum(parts, axis=0)
    inside = np.asarray(total > 0.5)
    grey, white = (
        np.rint(np.where(inside, part / np.maximum(total, 1e-6), 0) * FULL).astype(np.int16)
        for part in parts[:2]
    )
    fluid = np.where(inside, np.maximum(FULL - grey - white, 0), 0)
    if scheme == "aseg":
        vermis = indices_of("cerebellar_vermis")
        regions = np.where(
            np.isin(regions, indices_of("cerebellum")) & np.isin(atlas_regions, vermis),
            atlas_regions,
            regions,
        )
        owners = atlas_regions
    else:
        owners = regions
    solid = np.where(inside & np.isin(regions, indices(*SOLIDS)), regions, 0).astype(np.uint8)
    outside = None
    drawn = inside
    if head:
        shell = np.where(labels >= FIRST_HEAD_LABEL, labels - FIRST_HEAD_LABEL, 0).astype(np.uint8)
        outside = resample(
            volume.same_grid(shell), MODEL_GRID, order=0, to_grid_space=to_template
        ).data
        drawn = inside | (outside > 0)
    box, grid = even_box(Volume(drawn.astype(np.uint8), MODEL_GRID), MARGIN)
    return Anatomy(
        name=volume_stem(path),
        grid=grid,
        grey=grey[box].astype(np.uint8),
        white=white[box].astype(np.uint8),
        fluid=fluid[box].astype(np.uint8),
        solid=solid[box],
        cortex=nearest_label(owners, indices(Kind.CORTEX))[box],
        deep=nearest_label(owners, indices(Kind.WHITE))[box],
        head=None if outside is None else np.where(inside, 0, outside)[box].astype(np.uint8),
    )


def indices_of(pair: str) -> list[int]:
    """Return the indices of a region's two sides, or of its one.

    Parameters
    ----------
    pair : str
        A region's name without its side, as in `Region.pair`.

    Returns
    -------
    list of int
        Empty where there is no such region.
    """
    return [region.index for region in REGIONS if region.pair == pair]


def _aseg_regions(labels: Array) -> Array:
    """Turn FreeSurfer's labels into indices; cerebral cortex and white matter stay 0."""
    table = np.zeros(FIRST_HEAD_LABEL, np.uint8)
    for region in REGIONS:
        table[list(region.aseg)] = region.index
    return np.asarray(table[np.where((labels > 0) & (labels < FIRST_HEAD_LABEL), labels, 0)])


def _tissues(
    labels: Array, regions: Array, cavity: Array, scheme: str
) -> tuple[Array, Array, Array]:
    """Return grey, white and fluid shares by label, float32, as far as labels say."""
    share = np.zeros(SULCAL_CSF_INDEX + 1, np.float32)
    wet = np.zeros(SULCAL_CSF_INDEX + 1, np.float32)
    for region in REGIONS:
        share[region.index] = region.white_share
        wet[region.index] = region.kind is Kind.VENTRICLE
    wet[SULCAL_CSF_INDEX] = 1
    white, fluid = share[regions], wet[regions]
    white[np.isin(labels, CEREBELLAR_WHITE[scheme])] = 1
    if scheme == "aseg":
        unnamed = cavity & (regions == 0)
        white[unnamed & np.isin(labels, ASEG_WHITE)] = 1
        fluid[unnamed & ~np.isin(labels, (*ASEG_WHITE, *ASEG_CORTEX))] = 1
    white, fluid = np.where(cavity, white, 0), np.where(cavity, fluid, 0)
    return cavity - white - fluid, white, fluid


def _soften(volume: Volume, to_template: Array) -> Volume:
    """Bring a map of shares to the model grid, with the blur that its larger voxels make."""
    own, target = float(volume.grid.voxel_sizes.mean()), float(MODEL_GRID.voxel_sizes[0])
    if own < target:
        image = to_nibabel(volume)
        width = float(np.sqrt(target**2 - own**2))
        smooth = smooth_image(
            nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), width
        )
        volume = volume.same_grid(smooth.get_fdata(dtype=np.float32))
    return resample(volume, MODEL_GRID, order=1, to_grid_space=to_template)


def _fit(path: Path, regions: Volume, atlas: Volume) -> Array:
    """Return the affine (mm to mm) that lays the centres of regions over the atlas's, (4, 4)."""
    common = [
        region.index
        for region in REGIONS
        if region.kind in SOLIDS
        and (regions.data == region.index).any()
        and (atlas.data == region.index).any()
    ]
    if len(common) < MIN_LANDMARKS:
        raise ScanError(
            path,
            must_hold=f"at least {MIN_LANDMARKS} deep regions must be labelled to find its place",
            found=f"{len(common)}",
            remedy="Give a segmentation of the whole brain.",
        )
    here, there = (
        np.array(center_of_mass(np.ones(v.grid.shape, np.uint8), v.data, common))
        @ v.grid.affine[:3, :3].T
        + v.grid.affine[:3, 3]
        for v in (regions, atlas)
    )
    padded = np.column_stack([here, np.ones(len(here))])
    affine = np.eye(4)
    affine[:3] = np.linalg.lstsq(padded, there, rcond=None)[0].T
    return affine
