"""``ermoe-ba maps``: what the maps of a cohort have in common, and what they go along with."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ermoe_ba.atlas import DEFAULT_ATLAS, load_atlas
from ermoe_ba.cohort import Participants, read_participants
from ermoe_ba.errors import UsageError
from ermoe_ba.maps.cohort import CohortMaps, read_cohort
from ermoe_ba.maps.files import check_free
from ermoe_ba.maps.group import write_group_maps
from ermoe_ba.maps.people import with_interval, with_session_ages

if TYPE_CHECKING:
    from ermoe_ba.model_card import ModelCard

# Stands in a finished run of `cross-validate`, and in no folder of predictions.
RUN_CARD = "model.json"


def run_maps(options: argparse.Namespace) -> int:
    """Write the maps and tables of a cohort, and their page.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0.

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
    atlas = load_atlas(options.atlas or DEFAULT_ATLAS, options.atlas_labels, options.atlas_space)
    participants = read_participants(options.participants) if options.participants else None
    cohort = _cohort(options.predictions, participants)
    for remark in cohort.remarks:
        print(f"note    {remark}", file=sys.stderr)
    card = _card(options.predictions, cohort.model_id, options.model)
    group = write_group_maps(
        cohort,
        atlas,
        options.out,
        group_column=options.groups,
        permutations=options.permutations,
        surrogates=options.surrogates,
        seed=options.seed,
        card=card,
    )
    for remark in group.remarks:
        print(f"note    {remark}", file=sys.stderr)
    # Drawing brings matplotlib along: it waits until the maps stand.
    from ermoe_ba.report.maps_page import write_maps_page

    page = write_maps_page(options.out)
    print("\n".join(group.summary))
    print("\n".join(["Written:", *(f"  {path}" for path in (*group.written, page))]))
    return 0


def _cohort(folder: Path, participants: Participants | None) -> CohortMaps:
    """Read predictions, or a finished run of ``cross-validate``: it alone holds a model's card."""
    if not (folder / RUN_CARD).is_file():
        return read_cohort(folder, participants)
    # A slow import, for those alone who bring a run.
    from ermoe_ba.attribution.out_of_fold import read_out_of_fold
    from ermoe_ba.model_card import read_card

    run, remark = read_out_of_fold(folder), ""
    if participants is not None:
        participants, remark = with_session_ages(participants, run.table)
    cohort = run.cohort(participants)
    return replace(
        cohort,
        people=with_interval(cohort.people, read_card(folder).half_width),
        remarks=(*cohort.remarks, *filter(None, [remark])),
    )


def _card(folder: Path, model_id: str, model: str | None) -> "ModelCard | None":
    """Return the card of the model that predicted: what it owes to its experts stands there.

    That of the run, of the model that was given, or of the shipped one; None where the predictions
    are of another that was not given.
    """
    from ermoe_ba.model_card import model_folder, read_card, shipped_models
    from ermoe_ba.model_identity import model_identity, model_name

    if (folder / RUN_CARD).is_file():
        if model is not None:
            raise UsageError(f"{folder} is a run, which has its own model: leave --model out.")
        return read_card(folder)
    name = model_name(model_id)
    if model is None and name not in shipped_models():
        return None
    where = model_folder(model or name)
    card = read_card(where)
    found = model_identity(where, card)
    if found == model_id:
        return card
    if model is None:
        return None
    raise UsageError(
        f"{where}: must be the model that predicted, {model_id}; found {found}. Give its folder "
        "with --model, or leave the option out."
    )
