"""The parser of ``ermoe-ba``: commands, and what each asks for."""

import argparse
from pathlib import Path

from ermoe_ba import __version__
from ermoe_ba.cli.options import (
    add_atlas,
    add_device,
    add_prediction,
    add_preprocessed,
    add_running,
    add_selection,
    count_of,
)
from ermoe_ba.cli.training_options import add_training

COMMANDS = (
    "predict",
    "preprocess",
    "maps",
    "probe",
    "info",
    "cross-validate",
    "train",
    "fine-tune",
    "evaluate",
    "ablate",
    "phantom",
    "report",
)
LEVELS = ("participant", "group")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Returns
    -------
    ArgumentParser
        The name of the command chosen comes as ``command``.
    """
    parser = argparse.ArgumentParser(
        prog="ermoe-ba",
        description="Brain age from a T1-weighted MRI, with maps of the experts it was read from. "
        "Research use; not a diagnosis.",
        epilog="As a BIDS App: ermoe-ba BIDS_DIR OUT_DIR participant|group [OPTIONS].",
    )
    parser.add_argument("--version", action="version", version=f"ermoe-ba {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict = commands.add_parser("predict", help="predict brain ages of T1w scans")
    preprocess = commands.add_parser("preprocess", help="write scans as the models see them")
    probe = commands.add_parser("probe", help="measure what a model owes to its experts")
    for command in (predict, preprocess, probe):
        command.add_argument(
            "inputs",
            nargs="+",
            type=Path,
            metavar="INPUT",
            help="a scan (.nii, .nii.gz, .hdr with .img, .mgh, .mgz), a folder of scans or of one "
            "DICOM series, a BIDS data set, or a .tsv with a column path",
        )
        command.add_argument("--out", required=True, type=Path, metavar="DIR", help="for results")
        add_selection(command)
    for command in (predict, preprocess):
        command.add_argument(
            "--age-from-dicom", action="store_true", help="take PatientAge as chronological age"
        )
        add_running(command)
    add_prediction(predict)
    predict.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run that DIR holds: keep what is finished and would come out the same",
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="replace results that DIR already holds"
    )
    preprocess.add_argument("--model", metavar="NAME|PATH", help="whose preprocessing to follow")
    preprocess.add_argument(
        "--overwrite", action="store_true", help="make derivatives again that are up to date"
    )

    probe.set_defaults(age_from_dicom=False)
    probe.add_argument(
        "--participants",
        required=True,
        type=Path,
        metavar="TSV",
        help="participants.tsv with participant_id and age",
    )
    probe.add_argument("--model", metavar="NAME|PATH", help="a shipped model or a model folder")
    add_preprocessed(probe)
    add_device(probe)

    _add_maps(commands.add_parser("maps", help="maps and tables of a cohort's predictions"))

    info = commands.add_parser("info", help="show versions, models, atlases, grid and licences")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.add_argument(
        "--model",
        nargs="?",
        const="",
        metavar="NAME|PATH",
        help="show the card of this model instead; without a name: of the default one",
    )

    training = add_training(commands)

    evaluate = commands.add_parser("evaluate", help="measure what predicted ages are worth")
    evaluate.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help="of `cross-validate`, or of `predict` with --participants: .tsv or .parquet",
    )
    evaluate.add_argument("--out", required=True, type=Path, metavar="DIR", help="for results")
    evaluate.add_argument(
        "--participants", type=Path, metavar="TSV", help="participants.tsv with sex or site"
    )
    evaluate.add_argument(
        "--runs",
        nargs="+",
        default=[],
        type=Path,
        metavar="RUN",
        help="of cross-validate over fewer participants, for a learning curve",
    )

    phantom = commands.add_parser("phantom", help="make a simulated cohort with known ageing")
    phantom.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="BIDS dataset to make or go on with"
    )
    phantom.add_argument("--n", required=True, type=int, metavar="N", help="number of subjects")
    phantom.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    phantom.add_argument(
        "--ages", default="18:90", metavar="FROM:TO", help="range in years, default: 18:90"
    )
    phantom.add_argument(
        "--variation",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="how far people of one age differ, as a share of how far adults do; default: 1",
    )
    ageing = phantom.add_mutually_exclusive_group()
    ageing.add_argument("--spare", nargs="+", metavar="REGION", help="regions that do not age")
    ageing.add_argument("--only", nargs="+", metavar="REGION", help="the only regions that age")
    phantom.add_argument(
        "--accelerate",
        nargs="+",
        metavar="REGION",
        help="regions that are older than the rest in half of the subjects",
    )
    phantom.add_argument(
        "--acceleration", type=float, default=10.0, metavar="YEARS", help="by how much; default: 10"
    )
    phantom.add_argument(
        "--anatomies",
        type=Path,
        metavar="PATH",
        help="a label map (MUSE, FreeSurfer, SynthSeg) or a folder of them, to shape subjects from "
        "in place of the template",
    )
    phantom.add_argument(
        "--head", action="store_true", help="skull and scalp, from label maps of whole heads"
    )
    phantom.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, default: 1")
    report = commands.add_parser("report", help="make reports again, and an index of a cohort")
    report.add_argument("results", type=Path, metavar="DIR", help="what predict or maps wrote")
    report.add_argument("--model", metavar="NAME|PATH", help="default: what the results name")
    add_atlas(report)
    for command in (info, *training, evaluate, phantom, report):
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def build_app_parser() -> argparse.ArgumentParser:
    """Return the parser of the calling convention of BIDS Apps (Gorgolewski 2017).

    Returns
    -------
    ArgumentParser
        Whose ``command`` is always ``bids-app``.
    """
    parser = argparse.ArgumentParser(
        prog="ermoe-ba", description="ermoe-ba as a BIDS App.", allow_abbrev=False
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="the data set")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="where results go")
    parser.add_argument("level", choices=LEVELS, help="predict, or gather one table")
    add_selection(parser)
    add_running(parser)
    add_prediction(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="do again what is finished and up to date"
    )
    parser.set_defaults(command="bids-app", age_from_dicom=False)
    return parser


def _add_maps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="DIR",
        help="that `predict` wrote, with its maps; or a finished run of `cross-validate`, whose "
        "scans are then seen by the members alone that were not trained on them",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="for results")
    parser.add_argument(
        "--participants", type=Path, metavar="TSV", help="ages, and columns for --groups"
    )
    parser.add_argument(
        "--groups", metavar="COLUMN", help="of the participants table: compare its groups"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="that predicted, for what it owes to its experts; default: what the predictions name, "
        "if it is shipped",
    )
    add_atlas(parser)
    parser.add_argument(
        "--permutations", type=count_of, default=5000, metavar="N", help="of effects, default: 5000"
    )
    # Of the default atlas' 2,205 p values, corrected, a lone one needs 365,000 surrogates to come
    # below 0.05.
    parser.add_argument(
        "--surrogates",
        type=count_of,
        default=399999,
        metavar="N",
        help="of regions, default: 399999",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--overwrite", action="store_true", help="replace maps that DIR holds")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
