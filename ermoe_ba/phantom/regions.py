"""Regions of the phantom: which labels make them up, how they age, which norms they follow.

A region's index is its value in the label maps that the phantom writes.
"""

from dataclasses import dataclass
from enum import StrEnum

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
    """

    index: int
    name: str
    pair: str
    kind: Kind
    muse: tuple[int, ...]
    aseg: tuple[int, ...]
    white_share: float
    norms: tuple[str, ...]

    @property
    def hemisphere(self) -> str:
        """``L``, ``R`` or ``n/a``."""
        return self.name[-1] if self.name != self.pair else "n/a"


Sides = tuple[tuple[int, ...], tuple[int, ...]]

# pair, kind, MUSE labels left and right, aseg labels left and right, brightness, norms. Labels after
# the dictionaries of MUSE (Doshi et al., NeuroImage 127, 2016) and of FreeSurfer; lobes are MUSE's,
# with the insula taken out of the frontal lobe. Brightness after the order of T1 times at 3 T: the
# pallidum and thalamus are rich in myelin, caudate and putamen are not.
_PAIRED: tuple[tuple[str, Kind, Sides, Sides, float, tuple[str, ...]], ...] = (
    ("lateral_ventricle", Kind.VENTRICLE, ((50, 52), (49, 51)), ((4, 5, 136, 137), (43, 44, 163, 164)), 0.0, ("LateralVentricle", "InfLatVentricle")),
    ("thalamus", Kind.NUCLEUS, ((60,), (59,)), ((10,), (49,)), 0.5, ("ThalamusProper",)),
    ("caudate", Kind.NUCLEUS, ((37,), (36,)), ((11,), (50,)), 0.15, ("Caudate",)),
    ("putamen", Kind.NUCLEUS, ((58,), (57,)), ((12,), (51,)), 0.25, ("Putamen",)),
    ("pallidum", Kind.NUCLEUS, ((56,), (55,)), ((13,), (52,)), 0.7, ("Pallidum",)),
    ("accumbens", Kind.NUCLEUS, ((30,), (23,)), ((26,), (58,)), 0.15, ("AccumbensArea",)),
    ("hippocampus", Kind.NUCLEUS, ((48,), (47,)), ((17,), (53,)), 0.05, ("Hippocampus",)),
    ("amygdala", Kind.NUCLEUS, ((32,), (31,)), ((18,), (54,)), 0.05, ("Amygdala",)),
    ("ventral_diencephalon", Kind.NUCLEUS, ((62, 75), (61, 76)), ((28,), (60,)), 0.7, ("VentralDC", "BasalForebrain")),
    ("cerebellum", Kind.HINDBRAIN, ((39, 41), (38, 40)), ((7, 8), (46, 47)), 0.0, ("CerebellumExterior", "Cerebellum_WM")),
    ("frontal_white", Kind.WHITE, ((82,), (81,)), ((), ()), 1.0, ("Frontal_WM",)),
    ("parietal_white", Kind.WHITE, ((86,), (85,)), ((), ()), 1.0, ("Parietal_WM",)),
    ("temporal_white", Kind.WHITE, ((88,), (87,)), ((), ()), 1.0, ("Temporal_WM",)),
    ("occipital_white", Kind.WHITE, ((84,), (83,)), ((), ()), 1.0, ("Occipital_WM",)),
    ("deep_white", Kind.WHITE, ((90, 92, 94), (89, 91, 93)), ((), ()), 1.0, ("Fornix", "AnteriorLimbInternalCapsule", "PosteriorLimbInternalCapsuleIncCerebralPeduncle")),
    ("frontal_cortex", Kind.CORTEX, ((105, 113, 119, 121, 125, 137, 141, 143, 147, 151, 153, 163, 165, 175, 179, 183, 187, 191, 193, 205), (104, 112, 118, 120, 124, 136, 140, 142, 146, 150, 152, 162, 164, 174, 178, 182, 186, 190, 192, 204)), ((), ()), 0.0, ("FrontalInferior_GM", "FrontalLateral_GM", "FrontalMedial_GM", "FrontalOpercular_GM")),
    ("insula", Kind.CORTEX, ((103, 173), (102, 172)), ((), ()), 0.0, ("FrontalInsular_GM",)),
    ("cingulate", Kind.CORTEX, ((101, 139, 167), (100, 138, 166)), ((), ()), 0.0, ("LimbicCingulate_GM",)),
    ("medial_temporal_cortex", Kind.CORTEX, ((117, 171), (116, 170)), ((), ()), 0.0, ("LimbicMedialTemporal_GM",)),
    ("temporal_cortex", Kind.CORTEX, ((123, 133, 155, 181, 185, 201, 203, 207), (122, 132, 154, 180, 184, 200, 202, 206)), ((), ()), 0.0, ("Temporal_GM",)),
    ("parietal_cortex", Kind.CORTEX, ((107, 149, 169, 177, 195, 199), (106, 148, 168, 176, 194, 198)), ((), ()), 0.0, ("Parietal_GM",)),
    ("occipital_cortex", Kind.CORTEX, ((109, 115, 129, 135, 145, 157, 161, 197), (108, 114, 128, 134, 144, 156, 160, 196)), ((), ()), 0.0, ("Occipital_GM",)),
)  # fmt: skip
_UNPAIRED: tuple[tuple[str, Kind, tuple[int, ...], tuple[int, ...], float, tuple[str, ...]], ...] = (
    ("third_ventricle", Kind.VENTRICLE, (4,), (14,), 0.0, ("3rdVentricle",)),
    ("fourth_ventricle", Kind.VENTRICLE, (11,), (15,), 0.0, ("4thVentricle",)),
    ("brain_stem", Kind.HINDBRAIN, (35,), (16,), 0.85, ("BrainStem",)),
    ("cerebellar_vermis", Kind.HINDBRAIN, (71, 72, 73), (), 0.0, ("CerebellarVermalLobules_1to5", "CerebellarVermalLobules_6to7", "CerebellarVermalLobules_8to10")),
    ("corpus_callosum", Kind.WHITE, (95,), (), 1.0, ("CorpusCallosum",)),
)  # fmt: skip


def _make() -> tuple[Region, ...]:
    made: list[Region] = []
    for pair, kind, muse, aseg, share, norms in _PAIRED:
        for side, letter in enumerate("LR"):
            made.append(
                Region(
                    index=len(made) + 1,
                    name=f"{pair}_{letter}",
                    pair=pair,
                    kind=kind,
                    muse=muse[side],
                    aseg=aseg[side],
                    white_share=share,
                    norms=tuple(f"{norm}_{letter}" for norm in norms),
                )
            )
    for name, kind, labels, others, share, norms in _UNPAIRED:
        made.append(
            Region(
                index=len(made) + 1,
                name=name,
                pair=name,
                kind=kind,
                muse=labels,
                aseg=others,
                white_share=share,
                norms=norms,
            )
        )
    return tuple(made)


REGIONS = _make()
# What is left of the intracranial cavity: fluid in sulci and cisterns. Its volume is not planted.
SULCAL_CSF_INDEX = len(REGIONS) + 1
# White matter that a lesion has darkened; its volume is part of the white matter's.
LESION_INDEX = len(REGIONS) + 2


def indices(*kinds: Kind) -> list[int]:
    """Return the indices of all regions of some kinds, in order."""
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
