"""What a network learns before it learns ages: stages by name, each with its own steps."""

from dataclasses import dataclass, fields

from ermoe_ba.training.loop import OptimiserConfig


@dataclass(frozen=True, kw_only=True)
class PretrainStage:
    """Steps of one stage.

    Parameters
    ----------
    num_epochs, batch_size : int
        Passes over the scans, in batches of that many.
    optimiser : OptimiserConfig
        Steps of the optimiser.
    """

    num_epochs: int
    batch_size: int
    optimiser: OptimiserConfig

    def __post_init__(self) -> None:
        for setting in ("num_epochs", "batch_size"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} must be at least 1; found {getattr(self, setting)}")
        if self.optimiser.patience:
            raise ValueError(
                "patience must be 0 before the age is learnt: nothing is set aside there; found "
                f"{self.optimiser.patience}"
            )


@dataclass(frozen=True, kw_only=True)
class PhantomStage(PretrainStage):
    """Age, of simulated people.

    Parameters
    ----------
    participants : str
        The participants table in the root of a BIDS data set, as ``ermoe-ba phantom`` writes it;
        relative to the folder of the study's own table.
    """

    participants: str


@dataclass(frozen=True, kw_only=True)
class MaskedStage(PretrainStage):
    """The description of hidden tokens from those that are shown; no label takes part.

    Parameters
    ----------
    share : float
        Of the tokens that are hidden, each by a draw of its own.
    """

    share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie between 0 and 1; found {self.share}")


@dataclass(frozen=True, kw_only=True)
class VolumesStage(PretrainStage):
    """The volumes of the regions of label maps, sides added up; no age takes part."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The stages before the age, in the order in which they are gone through.

    The farthest from the age of real people comes first. Alternatives (`ChooseConfig`) are compared
    without them, and scans that the age stage sets aside for validation take part, since their ages
    do not.

    Parameters
    ----------
    phantom : PhantomStage, optional
        Age of simulated people.
    masked : MaskedStage, optional
        Hidden tokens of the training scans.
    volumes : VolumesStage, optional
        Regional volumes of the training scans; needs label maps.
    """

    phantom: PhantomStage | None = None
    masked: MaskedStage | None = None
    volumes: VolumesStage | None = None

    def stages(self) -> dict[str, PretrainStage]:
        """Return the stages that there are, by name and in order.

        Returns
        -------
        dict of str to PretrainStage
            Empty where the age is learnt at once.
        """
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: stage for name, stage in found.items() if stage is not None}


# The age is learnt at once.
NO_STAGES = PretrainConfig()
