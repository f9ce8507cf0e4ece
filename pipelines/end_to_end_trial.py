"""Does it help to let the stem learn from ages as well? Members trained on, stem and all.

Command: python pipelines/end_to_end_trial.py RUN DATA [--folds K ...] [--rate R] [--epochs N]
Input:   RUN, a finished `ermoe-ba cross-validate` with what it kept; DATA/participants.tsv.
Time:    some 6 minutes of one core a fold.
Result:  printed: MAE in years out of fold, with a 95 % bootstrap interval over participants, of
         each fold's first member as it is, and after more passes over the training part in which
         everything learns, from changed scans and on the mean absolute error; and the paired
         difference. Its rate is that of the recipe's age stage if no other is given.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from error_table import print_errors
from torch import Tensor
from torch.nn import functional

from ermoe_ba.checkpoint import load_fold
from ermoe_ba.config import from_plain
from ermoe_ba.dataset import PreparedCohort, PreparedScan
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model_card import read_card
from ermoe_ba.preprocess import Preprocessor
from ermoe_ba.space import Array
from ermoe_ba.study import read_study
from ermoe_ba.training.age import AgeConfig, scan_variants
from ermoe_ba.training.age_learner import AgeLearner
from ermoe_ba.training.augment import ScanVariants
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.loop import fit
from ermoe_ba.training.parameter_groups import parameter_groups
from ermoe_ba.training.run_folder import SPLITS, RunFolder, read_run_table
from ermoe_ba.training.stage import Loss, Stage

AS_IS, AFTER = "as it is", "trained on, stem and all"
# Scans a step: 4 GB while the stem's gradients are computed.
BATCH_SIZE = 8


@dataclass(frozen=True)
class ChangedScans:
    """Batches of scans, each changed anew whenever it is seen.

    Parameters
    ----------
    scans : sequence of PreparedScan
        N of them.
    ages_n : ndarray
        In years.
    config : AgeConfig
        Which changes.
    order_sb : list of ndarray of int
        By step the numbers of its scans.
    seed : int
        Of the changes; a step's follow from its number.
    """

    scans: Sequence[PreparedScan]
    ages_n: Array
    config: AgeConfig
    order_sb: list[Array]
    seed: int

    def __len__(self) -> int:
        return len(self.order_sb)

    def __getitem__(self, step: int) -> Batch:
        change = ScanVariants(self.seed + step, self.config.changes)
        chosen = [self.scans[number] for number in self.order_sb[step]]
        volumes = torch.stack([change(scan) for scan in chosen])
        ages = torch.as_tensor(self.ages_n[self.order_sb[step]], dtype=torch.float32)
        return Batch((volumes, ages), tuple(scan.participant_id for scan in chosen))


def train_on(
    member: ErmoeBrainAge,
    scans: Sequence[PreparedScan],
    ages_n: Array,
    config: AgeConfig,
    seed: int,
) -> None:
    """Let all of a member learn from ages, its stem too; it is changed in place."""
    torch.manual_seed(seed)
    random, parts = np.random.default_rng(seed), -(-len(scans) // BATCH_SIZE)
    order_sb = [
        part
        for _ in range(config.num_epochs)
        for part in np.array_split(random.permutation(len(scans)), parts)
    ]
    learner = AgeLearner(member)

    def loss(tensors: tuple[Tensor, ...]) -> Loss:
        volumes, ages = tensors
        output = member(volumes)
        mean = functional.l1_loss(output.age_b, ages) + member.auxiliary_loss(output)
        error_b = (output.age_b.detach() - ages).abs()
        return Loss(mean, {"error_b": error_b, "selected_bte": output.routing.selected_bte})

    # The stem's weights are those of a small convolution: no prior was needed to teach it tissue.
    stem = {"params": list(member.stem.parameters()), "weight_decay": 0.0}
    groups = parameter_groups(member, config.weight_decay, config.readout_decay)
    stage = Stage(
        parameter_groups=[*groups, stem],
        batches=ChangedScans(scans, ages_n, config, order_sb, seed),
        steps_per_epoch=parts,
        loss=loss,
        after_step=learner.after_step,
        describe="end to end",
    )
    fit(member, stage, config.optimiser)
    member.refer_to(scan_variants(member.describe, scans, 0, seed)[:, 0].float())


@torch.inference_mode()
def ages_of(member: ErmoeBrainAge, scans: Sequence[PreparedScan]) -> Array:
    """Return the ages that a member gives scans, in years."""
    described = scan_variants(member.describe, scans, 0, 0)[:, 0].float()
    return np.asarray(member.read_age(described).age_b.numpy(), dtype=float)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rate", type=float)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    card, run = read_card(options.run), RunFolder(options.run).settings()
    config = replace(from_plain(AgeConfig, card.provenance["age"]), num_epochs=options.epochs)
    if options.rate is not None:
        faster = replace(config.optimiser, learning_rate=options.rate)
        config = replace(config, optimiser=faster)
    study = read_study(options.data / "participants.tsv", run.t1w, None)
    cohort = PreparedCohort(options.run / "prepared", Preprocessor(card.preprocess))
    fold_of = read_run_table(options.run / SPLITS).set_index("participant_id")["fold"]
    people: list[str] = []
    ages: list[float] = []
    predicted: dict[str, list[Array]] = {AS_IS: [], AFTER: []}
    for fold in options.folds:
        learnt = [one for one in study.scans if fold_of[one.participant_id] != fold]
        tested = [one for one in study.scans if fold_of[one.participant_id] == fold]
        people += [one.participant_id for one in tested]
        ages += [one.chronological_age for one in tested]
        seen = [cohort.read(one) for one in tested]
        member = load_fold(options.run, fold).members[0]
        predicted[AS_IS].append(ages_of(member, seen))
        ages_n = np.array([one.chronological_age for one in learnt])
        train_on(member, [cohort.read(one) for one in learnt], ages_n, config, run.seed + fold)
        predicted[AFTER].append(ages_of(member, seen))
        by_row = {name: np.concatenate(found) for name, found in predicted.items()}
        print_errors(by_row, np.array(ages), np.array(people), AS_IS)


if __name__ == "__main__":
    main()
