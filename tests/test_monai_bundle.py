"""The MONAI bundle of the shipped model: MONAI's own check, and the age that the package gives."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out

from ermoe_ba.assets import template
from ermoe_ba.checkpoint import load_ensemble
from ermoe_ba.errors import UsageError
from ermoe_ba.model_card import DEFAULT_MODEL
from ermoe_ba.space import MODEL_GRID

MAKE = Path(__file__).parents[1] / "pipelines" / "monai_bundle" / "make.py"


@pytest.fixture(scope="module")
def make_bundle() -> Callable[[Path, str], None]:
    # A recipe is no module of the package.
    function: Callable[[Path, str], None] = runpy.run_path(str(MAKE))["make_bundle"]
    return function


@pytest.fixture
def bundle(
    make_bundle: Callable[[Path, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    folder = tmp_path / "bundle"
    make_bundle(folder, DEFAULT_MODEL)
    # MONAI works inside the bundle, whose scripts are found from there.
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_monai_finds_shapes_and_types_as_described(bundle: Path) -> None:
    files: dict[str, Any] = {
        "meta_file": "configs/metadata.json",
        "config_file": "configs/inference.json",
        "device": "cpu",
    }
    verify_net_in_out(net_id="network_def", **files)
    described = json.loads(Path("configs/metadata.json").read_text(encoding="utf-8"))
    image = described["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == list(MODEL_GRID.shape)
    # The check can fail: one age is not two.
    with pytest.raises(ValueError, match="doesn't match"):
        verify_net_in_out(
            net_id="network_def",
            **files,
            **{"_meta_#network_data_format#outputs#pred#num_channels": 2},
        )


def test_the_bundle_gives_the_age_of_the_package(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    network = parser.get_parsed_content("network_def").eval()
    ensemble = load_ensemble(DEFAULT_MODEL)
    # Two heads that are none, different left and right: the mask's two halves, at white matter's
    # level.
    mask = template("desc-brain_mask").data > 0
    left = np.arange(MODEL_GRID.shape[0])[:, None, None] < 40
    heads = torch.tensor(np.stack([mask * 1.0, mask * np.where(left, 0.6, 1.0)]))
    t1w_b1ijk = heads[:, None].float()
    with torch.inference_mode():
        ages = network(t1w_b1ijk)
        expected = torch.stack([member(t1w_b1ijk[:, 0]).age_b for member in ensemble.members])
    assert ages.shape == (2, 1)
    assert torch.equal(ages[:, 0], expected.mean(dim=0))
    assert ages[0] != ages[1]


def test_a_folder_that_is_there_is_left_alone(
    make_bundle: Callable[[Path, str], None], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="must not exist yet"):
        make_bundle(tmp_path, DEFAULT_MODEL)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_leaves_nothing(
    make_bundle: Callable[[Path, str], None], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no model 'nobody'"):
        make_bundle(tmp_path / "bundle", "nobody")
    assert not (tmp_path / "bundle").exists()
