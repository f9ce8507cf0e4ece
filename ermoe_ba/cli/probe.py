"""``ermoe-ba probe``: what a trained model owes to its experts, measured on any scans."""

import argparse
import sys
from typing import Any

import torch
from tqdm import tqdm

from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.cli.predict import cannot_write, chosen_device
from ermoe_ba.cli.scans import meant_scans, tell_one_age
from ermoe_ba.cohort import chronological_age, read_participants
from ermoe_ba.derivatives import derivatives_of, read_derivative
from ermoe_ba.errors import ScanError, UsageError
from ermoe_ba.io import write_json
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.predict import described_once
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.t1w import content_hash
from ermoe_ba.training.probe import probe_routing
from ermoe_ba.training_scans import SEEN, count_seen, seen_in_training, seen_remark

FILE = "probe.json"
# Of the random routing.
SEED = 0


def run_probe(options: argparse.Namespace) -> int:
    """Probe a model.

    Parameters
    ----------
    options : Namespace
        From the parser of the command.

    Returns
    -------
    int
        Exit code: 0 if all scans were taken, 1 if some could not be used.

    Raises
    ------
    UsageError
        If the call is wrong, or fewer than two scans with an age can be used.
    """
    scans = meant_scans(options)
    participants = read_participants(options.participants)
    tell_one_age(scans, participants)
    ensemble = load_ensemble(options.model or DEFAULT_MODEL, chosen_device(options.device))
    preprocessor = Preprocessor(ensemble.card.preprocess, chosen_device(options.device))
    places = derivatives_of(options.preprocessed, scans) if options.preprocessed else None
    ages, people, described, answers = [], [], [], []
    for number, scan in enumerate(tqdm(scans, desc="scans", unit="scan")):
        try:
            age = chronological_age(scan, participants)
            if age is None:
                raise ScanError(
                    scan.path,
                    must_hold="the participants table must give an age",
                    found=f"none for {scan.participant_id}",
                    remedy=f"Add it to {options.participants}.",
                )
            state = None
            if places and (place := places[number]) is not None:
                wanted = ensemble.card.preprocessing_id
                state = read_derivative(place, scan.path, wanted, content_hash(scan.path))
            state = state or preprocessor(scan.path)
            answer = seen_in_training(ensemble.training_scans, scan.participant_id, scan.path)
        except ScanError as error:
            tqdm.write(f"failed  {error}", file=sys.stderr)
            continue
        ages.append(age)
        people.append(scan.participant_id)
        answers.append(answer)
        described.append([d.cpu().half() for d in described_once(ensemble, state)])
    if len(set(people)) < 2:
        raise UsageError(
            "A probe needs scans with an age of at least two people; of "
            f"{len(scans)} scans, {len(ages)} of {len(set(people))} could be used. Give more scans."
        )
    by_member = [torch.cat(column).float() for column in zip(*described, strict=True)]
    members = [member.cpu() for member in ensemble.members]
    known = torch.tensor(ages, dtype=torch.float32)
    probe = probe_routing(members, by_member, known, SEED, participants=people)
    counts = count_seen(answers)
    content = {"model_id": ensemble.model_id, "num_scans": len(ages), SEEN: counts, **probe}
    try:
        write_json(options.out / FILE, content)
    except OSError as error:
        raise cannot_write(options.out, error) from error
    for name, value in content.items():
        values: list[Any] = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            values = [f"{answer} {count}" for answer, count in value.items()]
        shown = "  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values)
        print(f"{name:28} {shown}")
    if remark := seen_remark(counts):
        print(f"note    {remark}", file=sys.stderr)
    print(f"Written: {options.out / FILE}")
    return 0 if len(ages) == len(scans) else 1
