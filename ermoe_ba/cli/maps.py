"""``ermoe-ba maps``: what the maps of a cohort have in common, and what they go along with."""

import argparse
from pathlib import Path

from ermoe_ba.atlas import DEFAULT_ATLAS, load_atlas
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.io import remove_file
from ermoe_ba.maps.cohort import CohortMaps, read_cohort
from ermoe_ba.maps.group import check_free, write_group_maps

PAGE = "maps.html"


def run_maps(options: argparse.Namespace) -> int:
    """Write the maps and tables of a cohort; return 0.

    Raises
    ------
    UsageError
        If the call is wrong, or the predictions do not make a cohort.
    ScanError
        If a file of a prediction cannot be read.
    """
    if options.groups and not options.participants:
        raise UsageError("--groups names a column of --participants: give both.")
    check_free(options.out, overwrite=options.overwrite)
    page = options.out / PAGE
    atlas = load_atlas(options.atlas or DEFAULT_ATLAS, options.atlas_labels, options.atlas_space)
    participants = read_participants(options.participants) if options.participants else None
    cohort = _cohort(options.predictions, participants)
    # A page must not show other maps than stand beside it.
    remove_file(page)
    group = write_group_maps(
        cohort,
        atlas,
        options.out,
        group_column=options.groups,
        permutations=options.permutations,
        surrogates=options.surrogates,
        seed=options.seed,
    )
    # Drawing brings matplotlib along: it waits until the maps stand.
    from ermoe_ba.report.maps_page import write_maps_page

    write_maps_page(page, group, atlas)
    print("\n".join(group.summary))
    print("\n".join(["Written:", *(f"  {path}" for path in (*group.written, page))]))
    return 0


def _cohort(folder: Path, participants: Participants | None) -> CohortMaps:
    """Read predictions, or a finished run of ``cross-validate``: it alone holds a model's card."""
    if not (folder / "model.json").is_file():
        return read_cohort(folder, participants)
    # A slow import, for those alone who bring a run.
    from ermoe_ba.attribution.out_of_fold import read_out_of_fold

    return read_out_of_fold(folder).cohort(participants)
