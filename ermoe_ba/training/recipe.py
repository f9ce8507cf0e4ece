"""A recipe: every choice of a training run, read from one TOML file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from ermoe_ba.assets import atlas_root
from ermoe_ba.config import changed, from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.splits import SITES, SPLITS, STRATIFIED
from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.label_tissues import tissue_of_label
from ermoe_ba.training.pretrain_config import NO_STAGES, PretrainConfig
from ermoe_ba.training.region_targets import region_of_label
from ermoe_ba.training.tissue import TissueConfig

# What the recipe itself says of the age stage, beside its named alternatives.
AS_WRITTEN = "recipe"
# Settings of the age stage that say what its scans are changed into.
MADE_ONCE = ("num_variants", "changes")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is trained on what.

    Parameters
    ----------
    name : str
        Name of the model.
    num_folds : int
        Folds of the cross-validation.
    num_starts : int
        Members of each fold: trained from the same stem, each with random numbers of its own.
    seed : int
        Of everything random.
    coverage : float
        Of the prediction interval.
    data, licence : str
        What the data are, and the terms on which weights made from them may be passed on.
    num_repeats : int
        How often the folds are drawn; the members of the first repeat are the model, the others
        tell how much its figures owe to the draw.
    num_stems : int
        Stems of a model of everybody, each learnt anew from all scans, with ``num_starts`` members
        of its own. The folds have one each.
    split : {"stratified", "leave-site-out"}
        Folds balanced in age and site, or one for each site of the participants table.
    t1w : str, optional
        Path of a participant's scan, relative to the participants table, with ``{participant_id}``
        in it; without one, the table lies in the root of a BIDS data set and all its T1w scans
        count.
    labels : str, optional
        Path of a scan's label map, with ``{participant_id}``, ``{session_id}`` or ``{scan}`` in it.
    label_table : str, optional
        Table with the columns ``index`` and ``tissue``, relative to the participants table or else
        to the atlas folder.
    stem : str, optional
        Model, shipped or in a folder, whose stem is taken; label maps are not needed then.
    trackers : tuple of str
        Who is told the curves of training: ``tensorboard``, ``mlflow``.
    """

    name: str
    num_folds: int
    num_starts: int
    seed: int
    coverage: float
    data: str
    licence: str
    num_repeats: int = 1
    num_stems: int = 1
    split: str = STRATIFIED
    t1w: str | None = None
    labels: str | None = None
    label_table: str | None = None
    stem: str | None = None
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds must be at least 2; found {self.num_folds}")
        for setting in ("num_starts", "num_repeats", "num_stems"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} must be at least 1; found {getattr(self, setting)}")
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}; found {self.split!r}")
        if self.split == SITES and self.num_repeats > 1:
            raise ValueError(
                f"num_repeats must be 1 where sites are left out, which no draw changes; "
                f"found {self.num_repeats}"
            )
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1; found {self.coverage}")
        for setting, one_of, others in (
            ("t1w", {"participant_id"}, set[str]()),
            ("labels", {"participant_id", "scan"}, {"session_id"}),
        ):
            pattern = getattr(self, setting)
            if pattern is None:
                continue
            found = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
            if not found & one_of or found - one_of - others:
                wanted = " or ".join(f"{{{name}}}" for name in sorted(one_of))
                raise ValueError(f"{setting} must hold {wanted}; found {pattern!r}")
        if (self.labels is None) != (self.label_table is None):
            raise ValueError("labels and label_table must be given together, or neither")
        if (self.labels is None) == (self.stem is None):
            raise ValueError(
                "the stem must come from one source: labels and label_table to train it, or stem "
                'to take a trained one (stem = "ixi-hh")'
            )

    def tissues(self, root: Path) -> dict[int, str]:
        """Return the tissue of each label; none where the stem is taken from a model.

        Parameters
        ----------
        root : Path
            Folder of the participants table.

        Returns
        -------
        dict of int to str
            Names from `TISSUES`.

        Raises
        ------
        UsageError
            As from `tissue_of_label`.
        """
        if self.label_table is None:
            return {}
        return tissue_of_label(self.label_table_path(root))

    def regions(self, root: Path) -> dict[int, str]:
        """Return the region of each label, as `region_of_label` tells it.

        Parameters
        ----------
        root : Path
            Folder of the participants table.

        Returns
        -------
        dict of int to str
            In the order of the labels.

        Raises
        ------
        UsageError
            As from `tissues` and `region_of_label`.
        """
        labels = sorted(self.tissues(root))
        regions = region_of_label(self.label_table_path(root), labels)
        return dict(zip(labels, regions, strict=True))

    def label_table_path(self, root: Path) -> Path:
        """Return where the label table lies.

        Parameters
        ----------
        root : Path
            Folder of the participants table.

        Returns
        -------
        Path
            There or, if it is not, in the atlas folder; only of a recipe that names one.
        """
        assert self.label_table is not None
        path = root / self.label_table
        return path if path.is_file() else atlas_root() / self.label_table


@dataclass(frozen=True, kw_only=True)
class ChooseConfig:
    """What each fold chooses among, on inner folds of its training part alone.

    Parameters
    ----------
    num_folds : int
        Inner folds.
    alternatives : dict
        Settings of the table ``age`` by name of the alternative; the recipe's own settings compete
        as well. What scans are changed into is made once, and no choice (`MADE_ONCE`).
    """

    num_folds: int
    alternatives: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"choose.num_folds must be at least 2; found {self.num_folds}")
        if not self.alternatives or AS_WRITTEN in self.alternatives:
            raise ValueError(
                f"choose needs alternatives, none of them called {AS_WRITTEN!r}: that is the "
                f"recipe's own setting; found {sorted(self.alternatives)}"
            )
        for name, settings in self.alternatives.items():
            for setting in set(settings) & set(MADE_ONCE):
                raise ValueError(f"choose.alternatives.{name}: {setting} cannot be chosen")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a run, and the text they were read from.

    Parameters
    ----------
    run : RunConfig
        What is trained on what.
    preprocess : PreprocessConfig
        How scans are prepared, in training and in prediction.
    model : ModelConfig
        Shape of the network.
    age : AgeConfig
        How the experts are trained.
    text : str
        The file, word for word.
    tissue : TissueConfig, optional
        How the stem is trained, where it is not taken from a model.
    choose : ChooseConfig, optional
        What each fold chooses among.
    pretrain : PretrainConfig
        Stages before the age.

    Raises
    ------
    ValueError
        If tables contradict each other, or an alternative of `choose` cannot be used.
    """

    run: RunConfig
    preprocess: PreprocessConfig
    model: ModelConfig
    age: AgeConfig
    text: str
    tissue: TissueConfig | None = None
    choose: ChooseConfig | None = None
    pretrain: PretrainConfig = NO_STAGES

    def __post_init__(self) -> None:
        if self.pretrain.volumes is not None and self.run.labels is None:
            raise ValueError(
                "pretrain.volumes learns from label maps: run must state labels and label_table"
            )
        if (self.tissue is None) != (self.run.stem is not None):
            raise ValueError(
                "the table tissue says how the stem is trained: it must be there, unless the stem "
                "is taken from a model (run.stem)"
            )
        # Wrong settings must not wait for their turn.
        self.age_alternatives()

    def age_alternatives(self) -> dict[str, AgeConfig]:
        """Return what a fold chooses among, by name; the recipe's own settings come first.

        Returns
        -------
        dict of str to AgeConfig
            One at least.
        """
        alternatives = {} if self.choose is None else self.choose.alternatives
        return {
            AS_WRITTEN: self.age,
            **{name: changed(self.age, settings) for name, settings in alternatives.items()},
        }


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        TOML with the tables ``run``, ``model``, ``age`` and, unless the stem is taken from a model,
        ``tissue`` (each of the last two with an ``optimiser``); if need be ``preprocess``,
        ``choose`` and ``pretrain``.

    Returns
    -------
    Recipe
        Checked.

    Raises
    ------
    UsageError
        If it cannot be read, or a setting is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return from_plain(Recipe, {"preprocess": {}, **tomllib.loads(text), "text": text})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the recipe cannot be used: {error}.") from error
