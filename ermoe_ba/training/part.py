"""One training of a run: stem, descriptions, choice, members, and the ages of those tested."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from ermoe_ba.checkpoint import load_member, save_member
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.io import remove_file, write_json
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array
from ermoe_ba.study import Study, StudyScan
from ermoe_ba.tables import write_table
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import scan_variants, train_age
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.choose import Choice, choose_settings, read_choice
from ermoe_ba.training.expenses import Expenses
from ermoe_ba.training.history import History
from ermoe_ba.training.pretrain import Lessons, SimulatedScans, pretrain
from ermoe_ba.training.ready_study import ReadyStudy
from ermoe_ba.training.recipe import Recipe
from ermoe_ba.training.region_targets import region_targets
from ermoe_ba.training.regional_volumes import label_volumes
from ermoe_ba.training.run_folder import RunFolder
from ermoe_ba.training.run_part import Part
from ermoe_ba.training.taken_stem import taken_stem
from ermoe_ba.training.tissue import train_stem


@dataclass(frozen=True)
class Side:
    """The scans on one side of a split.

    Parameters
    ----------
    scans : sequence of StudyScan
        Whose they are.
    prepared : sequence of PreparedScan
        The same, on the model grid.
    """

    scans: Sequence[StudyScan]
    prepared: Sequence[PreparedScan]

    @property
    def ages(self) -> Array:
        """Chronological ages in years, shape (N,)."""
        return np.array([scan.chronological_age for scan in self.scans])

    @property
    def participants(self) -> list[str]:
        """Whose each scan is."""
        return [scan.participant_id for scan in self.scans]


class PartTrainer:
    """Trains any part of a run; what stands in the folder already is not made again.

    Parameters
    ----------
    recipe : Recipe
        All choices.
    folder : RunFolder
        Where results and half-way results are kept.
    tokens : TokenGrid
        Of the network.
    study : Study
        Whom it is about. The folder of its table is where the label table may lie.

    Raises
    ------
    UsageError
        As from `RunConfig.tissues` and `place_regions`.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, tokens: TokenGrid, study: Study) -> None:
        self.recipe, self.folder, self.study = recipe, folder, study
        self.tokens = place_regions(tokens, recipe.model)
        # Of all that was read, described, chosen and trained here.
        self.expenses = Expenses()
        # Read before the hours of work that need them.
        self.tissues = recipe.run.tissues(study.root)
        self.regions = {} if recipe.pretrain.volumes is None else recipe.run.regions(study.root)

    def read(self, ready: ReadyStudy) -> Side:
        """Read the scans of a study that is ready, and count the time.

        Parameters
        ----------
        ready : ReadyStudy
            Of the run.

        Returns
        -------
        Side
            All of them, in the study's order.
        """
        with self.expenses.reading():
            prepared = [ready.cohort.read(scan) for scan in ready.study.scans]
        return Side(ready.study.scans, prepared)

    def describe(
        self, part: Part, train: Side, test: Side
    ) -> tuple[ErmoeBrainAge, dict[str, torch.Tensor]]:
        """Train the stem of a part, and let it describe its scans.

        Parameters
        ----------
        part : Part
            Which.
        train, test : Side
            Its sides; the stem learns from the first alone.

        Returns
        -------
        first : ErmoeBrainAge
            A network that has the stem.
        described : dict of Tensor
            ``train`` and ``test``, as `scan_variants` gives them; the test scans unchanged only.
        """
        torch.manual_seed(part.seed)
        first = ErmoeBrainAge(self.recipe.model, self.tokens)

        def stem() -> dict[str, torch.Tensor]:
            if self.recipe.tissue is None:
                return taken_stem(self.recipe)
            history = train_stem(
                first.stem,
                list(train.prepared),
                self.tissues,
                self.recipe.tissue,
                part.seed,
                snapshot=self.folder.snapshot(part, "stem"),
                tracking=self.folder.tracking(part, "stem", self.recipe.run),
            )
            self._keep(history, part, "stem")
            return first.stem.state_dict()

        def described() -> dict[str, torch.Tensor]:
            sides, age = {"train": train, "test": test}, self.recipe.age
            # Nobody is tested on changed copies.
            copies = {"train": age.num_variants, "test": 0}
            with self.expenses.making(f"{part.name} descriptions"):
                return {
                    name: scan_variants(
                        first.describe, side.prepared, copies[name], part.seed, age.changes
                    )
                    for name, side in sides.items()
                    if side.prepared
                }

        first.stem.load_state_dict(self.folder.kept(f"{part.name}_stem", stem))
        remove_file(self.folder.snapshot(part, "stem"))
        return first, self.folder.kept(f"{part.name}_described", described)

    def train(
        self, part: Part, train: Side, test: Side, simulated: ReadyStudy | None = None
    ) -> None:
        """Train a part's members; write them and, where anybody is tested, their ages.

        Parameters
        ----------
        part : Part
            Which.
        train, test : Side
            Its sides; the second may be empty.
        simulated : ReadyStudy, optional
            Simulated people, where the recipe begins with them.
        """
        recipe = self.recipe
        first, seen = self.describe(part, train, test)
        settings = recipe.age_alternatives()[self._choose(part, train, seen["train"]).name]
        lessons = self._lessons(part, first, train, seen["train"], simulated)
        predicted = []
        for number in range(recipe.run.num_starts):
            path = self.folder.member(part, number)
            if path.is_file():
                # Of a run that was stopped.
                member = load_member(path, recipe.model, self.tokens)
            else:
                seed, stage = part.member_seed(number), f"start-{number}"
                torch.manual_seed(seed)
                member = ErmoeBrainAge(recipe.model, self.tokens)
                member.stem.load_state_dict(first.stem.state_dict())
                for name in recipe.pretrain.stages():
                    self._pretrain(member, name, part, number, lessons)
                history = train_age(
                    member,
                    seen["train"],
                    train.ages,
                    settings,
                    seed,
                    participants=train.participants,
                    snapshot=self.folder.snapshot(part, stage),
                    tracking=self.folder.tracking(part, stage, recipe.run),
                )
                # The curve first: a member that stands is not trained again.
                self._keep(history, part, stage)
                save_member(path, member)
            # Also what a kill left here after the member stood.
            remove_file(self.folder.snapshot(part, f"start-{number}"))
            if test.scans:
                with torch.no_grad():
                    output = member.read_age(seen["test"][:, 0].float())
                predicted.append(output.age_b.numpy().astype(float))
        if not test.scans:
            return
        rows = {
            "participant_id": test.participants,
            "session_id": [scan.session_id for scan in test.scans],
            "scan": [scan.name for scan in test.scans],
            "fold": part.fold,
            "chronological_age": test.ages,
            "predicted_age": np.mean(predicted, axis=0),
        }
        # Last: where this table stands, the part is done.
        write_table(self.folder.predictions(part), pd.DataFrame(rows))

    def _choose(self, part: Part, train: Side, described: torch.Tensor) -> Choice:
        """Choose a part's settings, unless an earlier start did."""
        path = self.folder.choice(part)
        if path.is_file():
            return read_choice(path, self.recipe)
        people = pd.DataFrame({"participant_id": train.participants, "age": train.ages})
        if "site" in self.study.table:
            people["site"] = self.study.table["site"].loc[train.participants].to_numpy()
        choice, cost = choose_settings(self.recipe, self.tokens, described, people, part.seed)
        if choice.mae:
            write_json(path, asdict(choice))
            self.expenses.tell(cost, f"{part.name} choice")
        return choice

    def _lessons(
        self,
        part: Part,
        first: ErmoeBrainAge,
        train: Side,
        described: torch.Tensor,
        simulated: ReadyStudy | None,
    ) -> Lessons:
        """Return what a part's members learn from before ages."""
        volumes, people = None, None
        if self.regions:
            volumes = region_targets(label_volumes(train.scans, self.regions), self.regions)
        if simulated is not None:
            age, scans = self.recipe.age, simulated.study.scans

            def of_simulated() -> dict[str, torch.Tensor]:
                prepared = self.read(simulated).prepared
                with self.expenses.making(f"{part.name} descriptions of simulated people"):
                    found = scan_variants(
                        first.describe, prepared, age.num_variants, part.seed, age.changes
                    )
                return {"described": found}

            kept = self.folder.kept(f"{part.name}_phantom", of_simulated)
            people = SimulatedScans(
                described_nv=kept["described"],
                ages_n=np.array([scan.chronological_age for scan in scans]),
                participants=[scan.participant_id for scan in scans],
            )
        return Lessons(
            described_nv=described,
            participants=train.participants,
            volumes_nl=volumes,
            simulated=people,
        )

    def _pretrain(
        self, member: ErmoeBrainAge, name: str, part: Part, number: int, lessons: Lessons
    ) -> None:
        """Take a member through a stage before the age, unless an earlier start did."""
        stage = f"start-{number}_{name}"

        def learn() -> dict[str, torch.Tensor]:
            history = pretrain(
                member,
                name,
                self.recipe.pretrain.stages()[name],
                self.recipe.age,
                lessons,
                seed=part.member_seed(number),
                snapshot=self.folder.snapshot(part, stage),
                tracking=self.folder.tracking(part, stage, self.recipe.run),
            )
            self._keep(history, part, stage)
            return member.state_dict()

        member.load_state_dict(self.folder.kept(f"{part.name}_{stage}", learn))
        remove_file(self.folder.snapshot(part, stage))

    def _keep(self, history: History, part: Part, stage: str) -> None:
        """Write the curve of a stage, and tell what it cost."""
        write_table(self.folder.history(part, stage), history.table())
        self.expenses.tell(history.cost, f"{part.name} {stage}")
