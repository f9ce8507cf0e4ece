"""The files of a cohort's maps: their names, and what an earlier call left."""

import itertools
from collections import Counter
from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.io import remove_file

# The file that vouches for the others: written last, removed first.
DESCRIPTION = "maps.json"
# Drawn of the others by `ermoe_ba.report`: it must not show other maps than stand beside it.
PAGE = "maps.html"
REGIONS, EXPERTS, EFFECTS = "regions.tsv", "experts.tsv", "effects.tsv"
PARTICIPANTS = "participants.tsv"
# The people that the model was trained on, where the cohort's are others.
TRAINING = "training_ages.tsv"
EXPERT_LABELS = "group_desc-experts_dseg.tsv"
MEAN_WEIGHTS = "group_desc-experts_probseg.nii.gz"
WINNERS = "group_desc-experts_dseg.nii.gz"
MEAN_YEARS = "group_desc-contribution_map.nii.gz"
# The regions as they were sampled, so that the page can be drawn again without the atlas.
ATLAS = "group_desc-atlas_dseg.nii.gz"
WEIGHTS_SD = "group_desc-experts_stat-sd_map.nii.gz"
YEARS_SD = "group_desc-contribution_stat-sd_map.nii.gz"
# All that a call may write but the maps of effects.
_PLAIN_FILES = (
    PAGE,
    *(REGIONS, EXPERTS, EFFECTS, PARTICIPANTS, TRAINING, EXPERT_LABELS),
    *(ATLAS, MEAN_WEIGHTS, WINNERS, MEAN_YEARS, WEIGHTS_SD, YEARS_SD),
)
# The effect of age, where ages are known.
AGE = "age"
YEARS_ON_AGE = f"group_effect-{AGE}_stat-effect_map.nii.gz"


def holds_maps(folder: Path) -> bool:
    """Tell whether a folder holds a cohort's maps, whole or in part.

    Parameters
    ----------
    folder : Path
        It need not exist.

    Returns
    -------
    bool
        True as well where only the description is missing, so that this can be said.
    """
    return any((folder / name).exists() for name in (DESCRIPTION, MEAN_WEIGHTS))


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a cohort's maps, unless they may be replaced.

    Parameters
    ----------
    folder : Path
        It need not exist.
    overwrite : bool
        Whether they may.

    Raises
    ------
    UsageError
        If they may not.
    """
    if (folder / DESCRIPTION).exists() and not overwrite:
        raise UsageError(
            f"{folder} already holds {DESCRIPTION}; give --overwrite, or another --out."
        )


def remove_earlier(folder: Path) -> None:
    """Remove what an earlier call wrote: it may have known groups or ages that this one does not.

    The description goes first, since it vouches for the others.

    Parameters
    ----------
    folder : Path
        It need not exist; other files in it stay.

    Raises
    ------
    OSError
        If a file is there and cannot be removed.
    """
    maps = folder.glob("group_effect-*_stat-*_map.nii.gz")
    for path in (folder / DESCRIPTION, *(folder / name for name in _PLAIN_FILES), *sorted(maps)):
        remove_file(path)


def effect_stems(names: list[str]) -> list[str]:
    """Return how the files of each effect begin: its name in letters that a file name may hold.

    Names that would become one are numbered (A+ and A-; a and A, which are one file on some
    systems).

    Parameters
    ----------
    names : list of str
        Of all effects of a cohort.

    Returns
    -------
    list of str
        Distinct in any letter case, in the same order.
    """
    plain = ["".join(c if c.isalnum() or c == "-" else "-" for c in name) for name in names]
    count = Counter(stem.casefold() for stem in plain)
    taken = {stem for stem, often in count.items() if often == 1}
    distinct = []
    for stem in plain:
        named = stem
        if count[stem.casefold()] > 1:
            numbered = (f"{stem}-{number}" for number in itertools.count(1))
            named = next(name for name in numbered if name.casefold() not in taken)
            taken.add(named.casefold())
        distinct.append(f"group_effect-{named}")
    return distinct
