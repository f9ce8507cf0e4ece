"""A stem taught on the phantom's own label maps: eyes that can see what is planted.

The shipped stem was taught on scans of people, and what it takes for a tissue there need not be
what the phantom draws. With its own stem a trial asks about the maps alone.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ermoe_ba.attribution.phantom_scans import PhantomScans
from ermoe_ba.attribution.planted import Describer, digest
from ermoe_ba.errors import UsageError
from ermoe_ba.io import write_whole
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.regions import TISSUE_OF_INDEX
from ermoe_ba.preprocess import PreprocessConfig
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.tissue import TissueConfig, train_stem


@dataclass(frozen=True, kw_only=True)
class LessonConfig:
    """What a stem is taught on.

    Parameters
    ----------
    subjects : int
        Phantom subjects.
    seed : int
        Of the stem's weights and of the voxels that it is shown.
    phantom : PhantomConfig
        Their cohort. Everything should vary in it: what never changes need not be looked at.

    Raises
    ------
    ValueError
        If there are no subjects.
    """

    subjects: int
    seed: int
    phantom: PhantomConfig

    def __post_init__(self) -> None:
        if self.subjects < 1:
            raise ValueError(f"subjects must be at least 1; found {self.subjects}")


def taught_stem(
    lessons: LessonConfig,
    *,
    tissue: TissueConfig,
    model: ModelConfig,
    tokens: TokenGrid,
    preprocess: PreprocessConfig,
    folder: Path,
    tested: PhantomConfig,
) -> Describer:
    """Return a stem that learnt tissue from phantom label maps, by the stage that recipes have.

    Parameters
    ----------
    lessons : LessonConfig
        Whom it learns from.
    tissue : TissueConfig
        How.
    model, tokens : ModelConfig, TokenGrid
        Of the network whose stem it is.
    preprocess : PreprocessConfig
        What scans go through.
    folder : Path
        Where it is kept: the same lessons are given once.
    tested : PhantomConfig
        The cohort that it will describe.

    Returns
    -------
    Describer

    Raises
    ------
    UsageError
        If it would be taught on subjects that it will describe.
    """
    if lessons.phantom.seed == tested.seed:
        raise UsageError(
            f"Lessons must come from other subjects than those tested; found the seed "
            f"{tested.seed} in both. Give the phantom of the lessons another seed."
        )
    scans = PhantomScans(lessons.phantom, preprocess)
    how = [lessons.subjects, lessons.seed, asdict(tissue), model.stem_hidden]
    # The stem is the same on other tokens, but what it says of a scan is not.
    how += [tokens.patch_size, tokens.positions.tolist()]
    identity = f"taught-{digest(scans, *how)}"
    torch.manual_seed(lessons.seed)
    network = ErmoeBrainAge(model, tokens)
    path = folder / f"{identity}.safetensors"
    if not path.is_file():
        people = [scans.scan(index) for index in range(1, lessons.subjects + 1)]
        train_stem(network.stem, people, TISSUE_OF_INDEX, tissue, lessons.seed)
        write_whole(path, partial(save_file, network.stem.state_dict()))
    network.stem.load_state_dict(load_file(path))
    return Describer(network.eval(), identity)
