"""Every number that shapes the network."""

import math
import re
from dataclasses import dataclass, field

# The classes that the stem tells apart, in the order of its channels.
TISSUES = (
    "outside",
    "sulcal_csf",
    "ventricles",
    "cortex",
    "deep_grey",
    "medial_temporal",
    "cerebral_white",
    "cerebellar_grey",
    "cerebellar_white",
    "brain_stem",
)

# What is described of each tissue in a token, and the largest value each family can come to: shares
# and probabilities reach 1 and p (1 - p) a quarter; white matter has intensity 1, and 0.2 is about
# what a border between it and grey matter leaves as a standard deviation. Floors of twice the
# size changed the error of a ridge regression by less than 0.1 years.
FAMILIES = {"fraction": 1.0, "intensity": 1.0, "contrast": 0.2, "border": 0.25}

# Regions that an expert can be tied to, as unions of tissues; `region_tissues` and `region_labels`
# define more.
REGIONS: dict[str, tuple[str, ...]] = {
    "grey_matter": ("cortex", "deep_grey", "medial_temporal", "cerebellar_grey"),
    "white_matter": ("cerebral_white", "cerebellar_white", "brain_stem"),
    "csf": ("sulcal_csf", "ventricles"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of an ERMoE-ba network.

    Parameters
    ----------
    patch_size : int
        Edge of a token in voxels.
    token_min_brain : float
        A patch is a token if more than this share of it is template brain.
    stem_hidden : int
        Width of the voxel stem's hidden layers.
    hidden_size : int
        Width of a token (D).
    num_heads : int
        Heads of the attention that gathers context.
    place_scale : float
        Size of the place codes that routing starts from; content has a size of about 1.
    regions : tuple of str
        Names from `REGIONS`, `region_tissues` or `region_labels`; one regional expert each.
    num_free_experts : int
        Experts tied to no region; at least one, since they are the fallback.
    rank : int
        Columns of each expert's bases (R); less than `hidden_size`.
    offset_scale : float
        Standard deviation of the experts' offsets that training starts from.
    top_k : int
        At most this many experts a token.
    score_threshold : float
        Least eigenbasis score of an eligible expert, in standard deviations over the experts (but
        see `standardise_scores`).
    region_min_fraction : float
        A regional expert is eligible where its region fills at least this share of the token.
    temperature : float
        Of the softmax that turns the selected experts' scores into weights.
    bias_step : float
        Step of the selection bias towards even load after each training step; 0 switches it off.
    token_dropout : float
        Share of tokens that are silenced in a training step.
    compression : float
        Power of its own length that a token's content is divided by, as `TokenContent.unlike`
        says: 0 leaves content as it is, 1 leaves little but its direction.
    age_bounds : tuple of float
        Ages in years between which every prediction lies, as `AgeCurve` says; none: the age is the
        sum of the shares itself.
    region_tissues : dict of str to tuple of str
        Further regions by name, each the union of some of `TISSUES`. A name of lower-case letters,
        digits and underscores, since columns of tables bear it, and neither one of `REGIONS` nor
        that of a free expert.
    region_atlas : str or None
        Atlas of the regions in `region_labels`, as ``--atlas`` takes it: a name, or the path (from
        the current folder) of a label image with its table beside it. It is read where a network is
        made to be trained; trained weights hold what was read.
    region_labels : dict of str to tuple of str or int
        Further regions by name, as for `region_tissues`, each the union of some labels of the
        atlas. A label is the name in the atlas's table, which means both sides where two labels
        share it, the name with ``left`` or ``right`` before it, or the number.
    centre_content : bool
        Whether a token's content is what it adds to the cohort's mean at its place; else it holds
        that mean as well, which cosines of tokens and contexts then mostly see.
    standardise_scores : bool
        Whether `score_threshold` is compared with scores standardised over the experts; else with
        the scores themselves, from -1 to 1.
    free_fallback : bool
        Whether the best free expert serves a token that no expert is eligible for; else nobody
        does, and the token adds nothing.

    Raises
    ------
    ValueError
        If a number is out of range, a region unknown or named twice; the message says which.
    """

    patch_size: int
    token_min_brain: float
    stem_hidden: int
    hidden_size: int
    num_heads: int
    place_scale: float
    regions: tuple[str, ...]
    num_free_experts: int
    rank: int
    offset_scale: float
    top_k: int
    score_threshold: float
    region_min_fraction: float
    temperature: float
    bias_step: float
    token_dropout: float
    # Absent from what was trained before there were such settings.
    compression: float = 0.0
    age_bounds: tuple[float, ...] = ()
    region_tissues: dict[str, tuple[str, ...]] = field(default_factory=dict)
    region_atlas: str | None = None
    region_labels: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    centre_content: bool = True
    standardise_scores: bool = True
    free_fallback: bool = True

    def __post_init__(self) -> None:
        for name, least in (("patch_size", 2), ("stem_hidden", 1), ("num_heads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; found {getattr(self, name)}.")
        if not 0 < self.rank < self.hidden_size:
            raise ValueError(
                f"rank must lie between 1 and hidden_size - 1 = {self.hidden_size - 1}; found "
                f"{self.rank}. A square basis is a rotation, which keeps every cosine: all experts "
                "would score the same."
            )
        if self.num_free_experts < 1:
            raise ValueError(
                "num_free_experts must be at least 1, since they are every token's fallback; found "
                f"{self.num_free_experts}."
            )
        if not 1 <= self.top_k <= self.num_experts:
            raise ValueError(
                f"top_k must lie between 1 and {self.num_experts}; found {self.top_k}."
            )
        self._check_defined_regions()
        known = {*REGIONS, *self.region_tissues, *self.region_labels}
        unknown = set(self.regions) - set(known)
        if unknown:
            raise ValueError(f"Unknown regions {sorted(unknown)}; known are {sorted(known)}.")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError(f"Each region has one expert; found {list(self.regions)}.")
        # Compared such that what is no number is refused as well.
        for name in ("place_scale", "offset_scale", "bias_step"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be 0 or more, and finite; found {getattr(self, name)}."
                )
        for name in ("token_min_brain", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be 0 or more, and less than 1; found {getattr(self, name)}."
                )
        for name in ("region_min_fraction", "compression"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1; found {getattr(self, name)}.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0, and finite; found {self.temperature}.")
        if not math.isfinite(self.score_threshold):
            raise ValueError(f"score_threshold must be finite; found {self.score_threshold}.")
        if self.age_bounds and not (
            len(self.age_bounds) == 2
            and -math.inf < self.age_bounds[0] < self.age_bounds[1] < math.inf
        ):
            raise ValueError(
                "age_bounds must be the lowest and the highest age, finite, or nothing; found "
                f"{list(self.age_bounds)}."
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads = {self.num_heads}; found "
                f"{self.hidden_size}."
            )

    def _check_defined_regions(self) -> None:
        taken = set(REGIONS)
        for setting in ("region_tissues", "region_labels"):
            defined = getattr(self, setting)
            for name in defined:
                if name in taken or not re.fullmatch(r"(?!free_\d)[a-z][a-z0-9_]*", name):
                    raise ValueError(
                        f"{setting} must give regions names of their own, of lower-case letters, "
                        f"digits and underscores; found {name!r}. Taken are {sorted(taken)}, and "
                        "free_1 and so on."
                    )
            taken |= set(defined)
        for name, tissues in self.region_tissues.items():
            if not tissues or len(set(tissues)) < len(tissues) or set(tissues) - set(TISSUES):
                raise ValueError(
                    f"region_tissues.{name} must name one or more tissues, each once, of "
                    f"{', '.join(TISSUES)}; found {list(tissues)}."
                )
        for name, labels in self.region_labels.items():
            if not labels or len(set(labels)) < len(labels):
                raise ValueError(
                    f"region_labels.{name} must name one or more labels of the atlas, each once; "
                    f"found {list(labels)}."
                )
        if bool(self.region_labels) != bool(self.region_atlas):
            raise ValueError(
                "region_labels and region_atlas, the atlas whose labels they are, must be given "
                f"together, or neither; found {sorted(self.region_labels)} and "
                f"{self.region_atlas!r}."
            )

    def tissues_of(self, region: str) -> tuple[str, ...]:
        """Return the tissues that make up a region.

        Parameters
        ----------
        region : str
            One of `regions`.

        Returns
        -------
        tuple of str
            Of `TISSUES`; none of a region of the atlas.
        """
        if region in self.region_labels:
            return ()
        return REGIONS[region] if region in REGIONS else self.region_tissues[region]

    @property
    def atlas_regions(self) -> tuple[str, ...]:
        """Those of `regions` that are made of an atlas's labels, in their order."""
        return tuple(region for region in self.regions if region in self.region_labels)

    @property
    def num_experts(self) -> int:
        """Regional and free experts together (E); the regional ones come first."""
        return len(self.regions) + self.num_free_experts

    @property
    def expert_names(self) -> tuple[str, ...]:
        """A name for each expert: its region, or ``free_1``, ``free_2`` and so on."""
        free = tuple(f"free_{n}" for n in range(1, self.num_free_experts + 1))
        return (*self.regions, *free)
