"""The recipe of an ablation: rows of a table, each a network that is trained alike."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ermoe_ba.config import changed, from_plain
from ermoe_ba.errors import UsageError
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.orthogonal import ORTHOGONAL_MAPS
from ermoe_ba.model.rivals.roster import BACKBONES, ROUTERS
from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.change_config import CHANGES
from ermoe_ba.training.pretrain_config import PretrainConfig
from ermoe_ba.training.recipe import Recipe, read_recipe
from ermoe_ba.training.regional_volumes import REGRESSIONS

HARMONISATIONS = ("none", "combat")

# Settings of the model that decide what the stem sees and where tokens lie.
OF_THE_STEM = {"patch_size", "stem_hidden", "token_min_brain"}


@dataclass(frozen=True, kw_only=True)
class RowConfig:
    """One row of the table: what differs from the base recipe.

    Parameters
    ----------
    name : str
        Of the row; letters, digits and hyphens, since files bear it.
    backbone : str
        ``experts`` for mixtures, a dense or convolutional network, or a regression on regional
        volumes (`BACKBONES` and `REGRESSIONS`).
    router : str
        Of a mixture, one of `ROUTERS`: its router, or another form of network around the experts.
    orthogonal : str
        How a mixture's bases are kept orthonormal, one of `ORTHOGONAL_MAPS`.
    model, age : dict
        Settings of the base recipe's tables of that name that this row has otherwise.
    harmonise : {"none", "combat"}
        Whether a regression's volumes are rid of what sites do to them, learnt within the fold;
        the participants table must tell the ``site`` then.
    pretrain : dict
        Stages before the age that this row has besides, or otherwise; for mixtures alone.
    """

    name: str
    backbone: str = "experts"
    router: str = "eigenbasis"
    orthogonal: str = "qr"
    model: dict[str, Any] = field(default_factory=dict)
    age: dict[str, Any] = field(default_factory=dict)
    harmonise: str = "none"
    pretrain: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.name):
            raise ValueError(
                f"a row's name must be of letters, digits and hyphens; found {self.name!r}"
            )
        for setting, known in (
            ("backbone", (*BACKBONES, *REGRESSIONS)),
            ("router", ROUTERS),
            ("orthogonal", tuple(ORTHOGONAL_MAPS)),
            ("harmonise", HARMONISATIONS),
        ):
            found = getattr(self, setting)
            if found not in known:
                raise ValueError(
                    f"row {self.name!r}: {setting} must be one of {', '.join(known)}; "
                    f"found {found!r}"
                )
        if self.harmonise != "none" and self.backbone not in REGRESSIONS:
            raise ValueError(
                f"row {self.name!r}: harmonise is for {' and '.join(REGRESSIONS)}; found backbone "
                f"{self.backbone!r}"
            )


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """What is compared with what, and how often.

    Parameters
    ----------
    base : str
        The recipe of `cross-validate` whose data, folds, stem and budget all rows share, relative
        to this recipe.
    seeds, folds : tuple of int
        Each row is trained once for each of both; a participant's error is its mean over the seeds.
    reference : str
        Row that the others are compared with, participant by participant.
    reduce : int
        Convolutional networks see the scan averaged over cubes of that edge.
    stability_epochs : int
        Routing is compared between epochs over that many last epochs.
    resamples : int
        Of the bootstrap over participants.
    confidence : float
        Of its intervals.
    moved_by : tuple of str
        Changes, from `CHANGES`: how far each alone moves the ages of the test scans is measured of
        every network that reads tokens, at the size that the base recipe gives the change.
    """

    base: str
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    reference: str
    reduce: int
    stability_epochs: int
    resamples: int
    confidence: float
    moved_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seeds", "folds"):
            numbers = getattr(self, name)
            if not numbers or len(set(numbers)) < len(numbers):
                raise ValueError(f"{name} must be one or more numbers, each once; found {numbers}")
        for name in ("reduce", "stability_epochs", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1; found {self.confidence}")
        unknown = set(self.moved_by) - set(CHANGES)
        if unknown:
            raise ValueError(
                f"moved_by must name changes, which are {', '.join(CHANGES)}; "
                f"found {', '.join(sorted(unknown))}"
            )


@dataclass(frozen=True, kw_only=True)
class AblationRecipe:
    """All settings of an ablation.

    Parameters
    ----------
    ablation : AblationConfig
        What is compared.
    row : tuple of RowConfig
        The table's rows.
    base : Recipe
        What the rows share.
    text : str
        The recipe as it was read.
    """

    ablation: AblationConfig
    row: tuple[RowConfig, ...]
    base: Recipe
    text: str

    def __post_init__(self) -> None:
        names = [row.name for row in self.row]
        if len(set(names)) < len(names):
            raise ValueError(f"each row must have a name of its own; found {names}")
        if self.ablation.reference not in {row.name for row in self.row}:
            raise ValueError(f"reference must be a row; found {self.ablation.reference!r}")
        if not set(self.ablation.folds) <= set(range(self.base.run.num_folds)):
            raise ValueError(
                f"folds must lie between 0 and {self.base.run.num_folds - 1}; "
                f"found {self.ablation.folds}"
            )
        # Wrong settings of any row must not wait for their turn.
        for row in self.row:
            if alone := sorted(OF_THE_STEM & set(row.model)):
                raise ValueError(
                    f"row {row.name!r}: all rows share the base recipe's stem and tokens, so none "
                    f"may set {', '.join(alone)}; change the base recipe"
                )
            self.model_of(row)
            self.age_of(row)
            stages = self.pretrain_of(row)
            if stages.volumes is not None and self.base.run.labels is None:
                raise ValueError(f"row {row.name!r}: pretrain.volumes needs label maps in the base")
            if stages.stages() and row.backbone != "experts":
                raise ValueError(
                    f"row {row.name!r}: pretrain is for mixtures; found backbone {row.backbone!r}"
                )

    def model_of(self, row: RowConfig) -> ModelConfig:
        """Return the shape of a row's network.

        Parameters
        ----------
        row : RowConfig
            Of this recipe.

        Returns
        -------
        ModelConfig
            The base recipe's, with what the row changes.

        Raises
        ------
        ValueError
            If a setting is unknown or out of range.
        """
        return changed(self.base.model, row.model)

    def age_of(self, row: RowConfig) -> AgeConfig:
        """Return how a row's network is trained.

        Parameters
        ----------
        row : RowConfig
            Of this recipe.

        Returns
        -------
        AgeConfig
            The base recipe's, with what the row changes.

        Raises
        ------
        ValueError
            If a setting is unknown or out of range.
        """
        return changed(self.base.age, row.age)

    def pretrain_of(self, row: RowConfig) -> PretrainConfig:
        """Return what a row's network learns before ages.

        Parameters
        ----------
        row : RowConfig
            Of this recipe.

        Returns
        -------
        PretrainConfig
            The base recipe's, with what the row changes.

        Raises
        ------
        ValueError
            If a setting is unknown or out of range.
        """
        return changed(self.base.pretrain, row.pretrain)


def read_ablation(path: Path) -> AblationRecipe:
    """Read an ablation's recipe and the recipe it rests on.

    Parameters
    ----------
    path : Path
        TOML with the table ``ablation`` and one ``row`` for each row.

    Returns
    -------
    AblationRecipe
        Checked.

    Raises
    ------
    UsageError
        If it cannot be read, or a setting is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
        base = read_recipe(path.parent / from_plain(AblationConfig, content["ablation"]).base)
        return from_plain(AblationRecipe, {**content, "base": base, "text": text})
    except KeyError as error:
        raise UsageError(f"{path}: the recipe must have a table {error}; found none.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the recipe cannot be used: {error}.") from error
