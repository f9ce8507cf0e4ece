"""Regions of the phantom: which labels make them up, how they age, which norms they follow.

A region's index is its value in the label maps that the phantom writes.
"""

import csv
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ermoe_ba.errors import UsageError


class Kind(StrEnum):
    """What a region is made of, and with that how its volume is changed.

    Solids and white matter grow and shrink by deformation. Cortex is turned into cerebrospinal
    fluid at its outer side, or out of it: in a template made of many brains, cortex and fluid share
    voxels, and no displacement can change what they share.
    """

    VENTRICLE = "ventricle"
    NUCLEUS = "nucleus"
    HINDBRAIN = "hindbrain"
    WHITE = "white"
    CORTEX = "cortex"


SOLIDS = (Kind.VENTRICLE, Kind.NUCLEUS, Kind.HINDBRAIN)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region of one hemisphere, or an unpaired one.

    Parameters
    ----------
    index : int
        Value in the phantom's label maps.
    name : str
        Ends in ``_L`` or ``_R`` where there are two.
    pair : str
        Name without the side.
    kind : Kind
        What it is made of.
    muse : tuple of int
        Its labels in MUSE label maps.
    aseg : tuple of int
        Its labels in FreeSurfer's and SynthSeg's label maps; empty where those do not tell it from
        its neighbours, and the atlas does.
    white_share : float
        How bright it is in a T1w image: 0 as cortex, 1 as white matter. Its content of myelin.
    norms : tuple of str
        Variables of the iSTAGING centiles whose sum is its volume.
    tissue : str
        The class that a stem trained on the phantom's label maps learns it as. The cerebellum, one
        region of grey and white matter, counts as grey, of which it is the most.
    """

    index: int
    name: str
    pair: str
    kind: Kind
    muse: tuple[int, ...]
    aseg: tuple[int, ...]
    white_share: float
    norms: tuple[str, ...]
    tissue: str

    @property
    def hemisphere(self) -> str:
        """``L``, ``R`` or ``n/a``."""
        return self.name[-1] if self.name != self.pair else "n/a"


def _numbers(cell: str) -> tuple[int, ...]:
    return () if cell == "n/a" else tuple(int(number) for number in cell.split())


def _read() -> tuple[Region, ...]:
    """Read the table of regions.

    Labels are those of MUSE (Doshi et al., NeuroImage 127, 2016) and of FreeSurfer; lobes are
    MUSE's, with the insula taken out of the frontal lobe. Brightness follows the order of T1 times
    at 3 T: pallidum and thalamus are rich in myelin, caudate and putamen are not.
    """
    with (Path(__file__).parent / "regions.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Region(
                index=int(row["index"]),
                name=row["name"],
                pair=row["pair"],
                kind=Kind(row["kind"]),
                muse=_numbers(row["muse"]),
                aseg=_numbers(row["aseg"]),
                white_share=float(row["white_share"]),
                norms=tuple(row["norms"].split()),
                tissue=row["tissue"],
            )
            for row in csv.DictReader(file, delimiter="\t")
        )


REGIONS = _read()
# What is left of the intracranial cavity: fluid in sulci and cisterns. Its volume is not planted.
SULCAL_CSF_INDEX = len(REGIONS) + 1
# White matter that a lesion has darkened; its volume is part of the white matter's.
LESION_INDEX = len(REGIONS) + 2
# Of all indices in the label maps: the class that a stem trained on them learns each as.
TISSUE_OF_INDEX = {
    **{region.index: region.tissue for region in REGIONS},
    SULCAL_CSF_INDEX: "sulcal_csf",
    LESION_INDEX: "cerebral_white",
}


def indices(*kinds: Kind) -> list[int]:
    """Return the indices of all regions of some kinds, in order.

    Parameters
    ----------
    *kinds : Kind
        Kinds of region.

    Returns
    -------
    list of int
    """
    return [region.index for region in REGIONS if region.kind in kinds]


def find_regions(names: tuple[str, ...]) -> list[Region]:
    """Return the regions that names stand for.

    Parameters
    ----------
    names : tuple of str
        ``hippocampus`` stands for both sides, ``hippocampus_L`` for one.

    Returns
    -------
    list of Region
        Each once, in the order of their indices.

    Raises
    ------
    UsageError
        If a name stands for none.
    """
    for name in names:
        if not any(name in (region.name, region.pair) for region in REGIONS):
            known = ", ".join(dict.fromkeys(region.pair for region in REGIONS))
            raise UsageError(
                f"There is no region {name!r} in the phantom. There are {known}; _L or _R after a "
                "paired name takes one side."
            )
    return [region for region in REGIONS if {region.name, region.pair} & set(names)]
