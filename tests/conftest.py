"""Fixtures that several tests share: an awkward grid, heads written to disk, small networks."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from ermoe_ba.assets import atlas_root, template
from ermoe_ba.io import write_volume
from ermoe_ba.space import TEMPLATE_SPACE, SpatialGrid, Volume
from ermoe_ba.tokens import TokenGrid

if TYPE_CHECKING:
    from torch import Tensor

    from ermoe_ba.checkpoint import Ensemble
    from ermoe_ba.model.config import ModelConfig
    from ermoe_ba.model.ermoe import ErmoeBrainAge
    from ermoe_ba.model_card import ModelCard

# For a long search, once in a while; the suite itself runs hypothesis' default of 100 examples.
settings.register_profile("fuzz", max_examples=6000)

PIPELINES = Path(__file__).parents[1] / "pipelines"
HEAD_SHAPE = (20, 22, 24)
HEAD_VOXEL_MM = 5.0


@pytest.fixture
def oblique_affine() -> npt.NDArray[np.float64]:
    """Voxels of 2 x 3 x 4 mm, turned about the third axis by the angle of the 3-4-5 triangle."""
    return np.array(
        [
            [0.6 * 2, -0.8 * 3, 0.0, 10.0],
            [0.8 * 2, 0.6 * 3, 0.0, -20.0],
            [0.0, 0.0, 4.0, 30.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


@pytest.fixture
def oblique_grid(oblique_affine: npt.NDArray[np.float64]) -> SpatialGrid:
    """5 x 7 x 9 voxels: a mix-up of two axes cannot go unseen."""
    return SpatialGrid((5, 7, 9), oblique_affine, "scan")


@pytest.fixture
def write_head(tmp_path: Path) -> Callable[..., Path]:
    """Write a head-like NIfTI: a bright ellipsoid with a slope in it, dark around."""

    def write(
        name: str = "head.nii.gz",
        shape: tuple[int, ...] = HEAD_SHAPE,
        dtype: npt.DTypeLike = np.int16,
        affine: npt.NDArray[Any] | None = None,
        data: npt.NDArray[Any] | None = None,
    ) -> Path:
        if data is None:
            centred = np.indices(shape[:3]) - (np.reshape(shape[:3], (3, 1, 1, 1)) - 1) / 2
            radius = np.sqrt((centred / (np.reshape(shape[:3], (3, 1, 1, 1)) * 0.4)) ** 2).sum(0)
            head = np.where(radius < 1, 100 + centred[0], 0).round()
            data = np.broadcast_to(head.reshape(*shape[:3], *(1,) * len(shape[3:])), shape)
        if affine is None:
            affine = np.diag([HEAD_VOXEL_MM, HEAD_VOXEL_MM, HEAD_VOXEL_MM, 1.0])
            affine[:3, 3] = [-50, -60, -40]
        path = tmp_path / name
        nib.Nifti1Image(data.astype(dtype), affine).to_filename(path)
        return path

    return write


@pytest.fixture
def recipe_names(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Give all names that a script of ``pipelines`` defines; its functions look them up here."""

    def names(script: str) -> dict[str, Any]:
        monkeypatch.syspath_prepend(PIPELINES)
        # A recipe is no module of the package; `run_path` gives a copy of what its functions see.
        return runpy.run_path(str(PIPELINES / f"{script}.py"))["main"].__globals__

    return names


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended and been waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture
def fresh_python() -> Callable[[str], str]:
    """Run lines of Python in an interpreter that has imported nothing; give what they printed."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def one_torch_thread() -> None:
    """Several threads gain nothing on small tensors and make busy machines crawl."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def atlases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, and one atlas: left and right half of the brain."""
    root = tmp_path_factory.mktemp("atlases")
    shutil.copytree(atlas_root() / f"tpl-{TEMPLATE_SPACE}", root / f"tpl-{TEMPLATE_SPACE}")
    brain = template("desc-brain_mask")
    halves = np.where(brain.data > 0, 1, 0).astype(np.int16)
    halves[46:] *= 2
    write_volume(root / "halves.nii.gz", brain.same_grid(halves))
    (root / "halves.tsv").write_text(
        "index\tname\themisphere\n1\tleft half\tL\n2\tright half\tR\n", encoding="utf-8"
    )
    (root / "registry.toml").write_text(
        '[atlas.MUSEIXI]\nfile = "halves.nii.gz"\nlabels = "halves.tsv"\n'
        'licence = "CC0"\ndescription = "Two halves"\n',
        encoding="utf-8",
    )
    return root


@pytest.fixture
def atlases_in_place(atlases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERMOE_BA_ATLASES", str(atlases))


@pytest.fixture(scope="session")
def ensemble(one_torch_thread: None) -> "Ensemble":
    """Two members with random weights on the real model grid, coarse and narrow to be quick."""
    import torch
    from coarse_model import CARD, COARSE

    from ermoe_ba.checkpoint import Ensemble, token_grid
    from ermoe_ba.model.ermoe import ErmoeBrainAge

    tokens = token_grid(COARSE)
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        member = ErmoeBrainAge(COARSE, tokens)
        with torch.no_grad():
            for parameter in member.experts.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
            member.location_tfc.fill_(0.1)
            member.spread_tfc.fill_(0.1)
            member.baseline.fill_(47.0 + seed)
            member.scale.fill_(16.0)
        members.append(member.eval())
    return Ensemble(CARD, members, tokens, "random-000000000000")


@pytest.fixture
def small_brain(oblique_affine: npt.NDArray[np.float64]) -> Volume:
    """An ellipsoid on 13 x 17 x 11 voxels: three unequal axes, none a multiple of the patch."""
    shape = (13, 17, 11)
    centre = (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    radius = (((np.indices(shape) - centre) / (centre + 0.5)) ** 2).sum(axis=0)
    return Volume((radius < 1).astype(np.uint8), SpatialGrid(shape, oblique_affine, "small"))


@pytest.fixture
def small_config() -> "ModelConfig":
    """Two regional and three free experts, of which a token may take two."""
    from ermoe_ba.model.config import ModelConfig

    return ModelConfig(
        patch_size=4,
        token_min_brain=0.2,
        stem_hidden=4,
        hidden_size=12,
        num_heads=2,
        place_scale=0.3,
        regions=("grey_matter", "csf"),
        num_free_experts=3,
        rank=5,
        offset_scale=0.1,
        top_k=2,
        score_threshold=0.0,
        region_min_fraction=0.2,
        temperature=0.1,
        bias_step=0.01,
        token_dropout=0.25,
    )


@pytest.fixture
def card(small_config: "ModelConfig") -> "ModelCard":
    """The card of a small model, none of its numbers a default."""
    from ermoe_ba.model_card import ModelCard
    from ermoe_ba.preprocess.config import PreprocessConfig

    preprocess = PreprocessConfig(brain_volume_ml=(650.0, 2400.0))
    return ModelCard(
        name="small",
        model=small_config,
        preprocess=preprocess,
        preprocessing_id=preprocess.identity(),
        ages=(20.5, 61.0),
        predictions=(24.125, 58.0),
        coverage=0.9,
        half_width=11.5,
        metrics={"mae": 3.3125},
        provenance={"data": "made up", "age": {"num_epochs": 3}},
    )


@pytest.fixture
def small_tokens(small_brain: Volume, small_config: "ModelConfig") -> TokenGrid:
    """Tokens of 4 voxels over the small brain; the outer ones reach beyond the grid."""
    return TokenGrid.over(small_brain, small_config.patch_size, small_config.token_min_brain)


@pytest.fixture
def make_member(
    one_torch_thread: None, small_config: "ModelConfig", small_tokens: TokenGrid
) -> "Callable[..., ErmoeBrainAge]":
    """Make a network with every weight, bias and buffer away from its start, in evaluation mode."""
    import torch

    from ermoe_ba.model.ermoe import ErmoeBrainAge

    def make(
        seed: int = 0, config: "ModelConfig" = small_config, tokens: TokenGrid = small_tokens
    ) -> ErmoeBrainAge:
        torch.manual_seed(seed)
        member = ErmoeBrainAge(config, tokens)
        with torch.no_grad():
            # A stem fresh from its initialisation finds all tissues everywhere.
            member.stem.classes.weight.mul_(12.0)
            for parameter in member.experts.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            member.location_tfc.uniform_(0.05, 0.15)
            member.spread_tfc.uniform_(0.1, 0.3)
            member.place_td.add_(0.3 * torch.randn_like(member.place_td))
            member.reference_te.uniform_(-0.01, 0.01)
            member.router.bias_e.uniform_(-0.05, 0.05)
            member.baseline.fill_(48.5)
            member.scale.fill_(16.0)
        return member.eval()

    return make


@pytest.fixture
def small_scans(small_brain: Volume) -> "Tensor":
    """Two scans of the small brain, shape (2, 13, 17, 11), zero outside it."""
    import torch

    intensities = np.random.default_rng(5).uniform(0.2, 1.3, (2, *small_brain.grid.shape))
    return torch.as_tensor(intensities * small_brain.data, dtype=torch.float32)
