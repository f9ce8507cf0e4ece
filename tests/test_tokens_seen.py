"""What the network sees of a scan: the stem's voxels, the tokens cut out, and their content."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.patches import PatchTokens
from ermoe_ba.model.stem import VoxelStem, grid_coordinates, local_mean
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")


MakeMember = Callable[..., ErmoeBrainAge]


@torch.no_grad()
def test_long_tokens_are_compressed_by_their_own_length(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """By hand: with a power of 1/2, a token of squared length r D is divided by (r + 0.1)^(1/4)."""
    config = replace(small_config, compression=0.5)
    member = ErmoeBrainAge(config, small_tokens).eval()
    shape = member.location_tfc.shape
    described = torch.zeros(1, *shape)
    # Squared lengths of 0.9 D and 15.9 D, whose fourth roots with the floor are 1 and 2.
    lengths = torch.tensor([0.9, 15.9]) * config.hidden_size
    described[0, 0, 1, 2], described[0, 3, 0, 5] = lengths.sqrt()
    expected = torch.zeros_like(described)
    expected[0, 0, 1, 2] = described[0, 0, 1, 2]
    expected[0, 3, 0, 5] = described[0, 3, 0, 5] / 2
    torch.testing.assert_close(member.unlike(described), expected)
    # Without the power, nothing is compressed.
    plain = ErmoeBrainAge(small_config, small_tokens).eval()
    assert torch.equal(plain.unlike(described), described)


@pytest.mark.parametrize("compression", [-0.1, 1.5])
def test_a_compression_out_of_range_is_refused(
    small_config: ModelConfig, compression: float
) -> None:
    with pytest.raises(ValueError, match=rf"between 0 and 1; found {compression}"):
        replace(small_config, compression=compression)


@torch.no_grad()
def test_single_voxels_get_the_logits_of_the_whole_scan(small_scans: Tensor) -> None:
    """Windows gathered one sample at a time; beyond the grid the intensity is 0, air."""
    torch.manual_seed(0)
    stem = VoxelStem(4)
    image = small_scans[0].numpy()
    shape = image.shape
    coordinates = grid_coordinates(shape)
    logits = stem(*stem.pictures(small_scans[:1]), coordinates[None])[0]
    averaged = local_mean(small_scans[:1, None], 3)[0, 0].numpy()
    corners_edges_and_middle = [
        (0, 0, 0),
        (12, 16, 10),
        (0, 16, 5),
        (6, 0, 10),
        (1, 8, 9),
        (6, 8, 5),
        (3, 12, 2),
    ]

    def window(picture: np.ndarray, voxel: tuple[int, ...], step: int) -> list[float]:
        samples = []
        for offset in np.ndindex(5, 5, 5):
            place = tuple(v + step * (o - 2) for v, o in zip(voxel, offset, strict=True))
            inside = all(0 <= p < n for p, n in zip(place, shape, strict=True))
            samples.append(float(picture[place]) if inside else 0.0)
        return samples

    for voxel in corners_edges_and_middle:
        i, j, k = voxel
        alone = stem.of_samples(
            torch.tensor([window(image, voxel, 1)]),
            torch.tensor([window(averaged, voxel, 2)]),
            coordinates[:, i, j, k][None],
        )
        torch.testing.assert_close(alone[0], logits[:, i, j, k], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_tokens_cut_out_before_the_stem_get_the_logits_of_the_whole_box(
    make_member: MakeMember, small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    """The windows of a token's outer voxels reach into its neighbours, and beyond the box."""
    member = make_member()
    patches, stem = PatchTokens(small_tokens), member.stem
    box = patches.box(small_scans)
    coordinates = patches.box(grid_coordinates(small_tokens.grid.shape))
    whole = stem(*stem.pictures(box), coordinates.expand(2, *coordinates.shape))
    expected = patches.describe(patches.gather(whole).softmax(dim=2), box)
    torch.testing.assert_close(member.describe(small_scans), expected, atol=1e-5, rtol=1e-4)
    assert expected.var(dim=1).max() > 1e-3


@torch.no_grad()
def test_how_many_boxes_the_stem_takes_at_a_time_does_not_matter(
    make_member: MakeMember, small_scans: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = make_member()
    described = {}
    for voxels in (1, 3 * 4**3, 10**6):
        monkeypatch.setattr(VoxelStem, "BATCH_VOXELS", voxels)
        described[voxels] = member.describe(small_scans)
    for other in described.values():
        torch.testing.assert_close(other, described[1], atol=1e-6, rtol=1e-5)


def test_a_window_holds_the_token_and_what_lies_around_it(small_tokens: TokenGrid) -> None:
    """Every voxel of the bordered box has its own number: the corner tells where a window lies."""
    patches = PatchTokens(small_tokens)
    edges = patches.box(torch.zeros(1, *small_tokens.grid.shape)).shape[1:]
    bordered = torch.arange(torch.tensor(edges).add(2).prod()).reshape(
        1, 1, *(n + 2 for n in edges)
    )
    windows = patches.windows(bordered, 1)
    assert windows.shape == (1, len(small_tokens), 1, 6, 6, 6)
    first = small_tokens.positions - small_tokens.positions.min(axis=0)
    for token in (0, len(first) // 2, len(first) - 1):
        i, j, k = (int(4 * n) for n in first[token])
        expected = bordered[0, 0, i : i + 6, j : j + 6, k : k + 6]
        assert torch.equal(windows[0, token, 0], expected)


def test_a_local_mean_repeats_the_edge() -> None:
    """3 of 0, 3, 9 along the last axis: (0 + 0 + 3) / 3, (0 + 3 + 9) / 3, (3 + 9 + 9) / 3."""
    image = torch.tensor([0.0, 3.0, 9.0]).expand(1, 1, 3, 3, 3)
    torch.testing.assert_close(
        local_mean(image, 3), torch.tensor([1.0, 4.0, 7.0]).expand(1, 1, 3, 3, 3)
    )


def test_coordinates_run_from_minus_one_to_one_along_their_own_axis() -> None:
    coordinates = grid_coordinates((3, 5, 2))
    assert coordinates.shape == (3, 3, 5, 2)
    assert coordinates[0, :, 4, 1].tolist() == [-1.0, 0.0, 1.0]
    assert coordinates[1, 2, :, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert coordinates[2, 0, 3, :].tolist() == [-1.0, 1.0]


def test_tokens_average_to_what_the_token_grid_says(
    small_tokens: TokenGrid, small_scans: Tensor
) -> None:
    """Two routes over a padded grid: torch's pooling of boxes, and numpy's of the lattice."""
    patches = PatchTokens(small_tokens)
    tokens_bt = patches.gather(patches.box(small_scans)[:, None])[:, :, 0].mean(dim=-1)
    for scan, values in zip(small_scans, tokens_bt, strict=True):
        lattice = small_tokens.pool(scan.numpy())
        expected = lattice[tuple(small_tokens.positions.T)]
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-6)
        inside = patches.gather(patches.box(torch.ones_like(scan))[None, None])[0, :, 0].mean(
            dim=-1
        )
        share = small_tokens.pool(np.ones(small_tokens.grid.shape))[tuple(small_tokens.positions.T)]
        np.testing.assert_allclose((values / inside).numpy(), expected / share, atol=1e-6)


def test_a_token_is_described_as_worked_by_hand(small_tokens: TokenGrid) -> None:
    """One voxel of 64 is half cortex, half ventricle and of intensity 0.54; all else is air, 0.

    Its 3 x 3 x 3 voxels have the mean 0.02 and the mean square 0.54 x 0.02, hence the standard
    deviation sqrt(0.0108 - 0.0004) there. In the border family, 0.5 x 0.5 of either tissue.
    """
    token = len(small_tokens) // 2
    patches = PatchTokens(small_tokens)
    voxel = tuple(small_tokens.positions[token] * 4 - [low for low, _ in small_tokens.padding] + 1)
    t1w = torch.zeros(1, *small_tokens.grid.shape)
    tissue = torch.zeros(1, len(TISSUES), *small_tokens.grid.shape)
    tissue[:, TISSUES.index("outside")] = 1.0
    t1w[(0, *voxel)] = 0.54
    tissue[(0, slice(None), *voxel)] = 0.0
    for name in ("cortex", "ventricles"):
        tissue[(0, TISSUES.index(name), *voxel)] = 0.5
    described = patches.describe(patches.gather(patches.box(tissue)), patches.box(t1w))
    assert described.shape == (1, len(small_tokens), len(FAMILIES), len(TISSUES))
    for name in ("cortex", "ventricles"):
        found = described[0, token, :, TISSUES.index(name)] * 64
        expected = {
            "fraction": 0.5,
            "intensity": 0.27,
            "contrast": 0.5 * 0.0104**0.5,
            "border": 0.25,
        }
        torch.testing.assert_close(found, torch.tensor([expected[f] for f in FAMILIES]))
    others = [n for n, t in enumerate(TISSUES) if t not in ("cortex", "ventricles", "outside")]
    assert described[..., others].abs().max() == 0


@torch.no_grad()
def test_tissue_fractions_sum_to_one(make_member: MakeMember, small_scans: Tensor) -> None:
    member = make_member()
    fractions = member(small_scans).fractions_btc
    assert fractions.shape == (2, len(member.location_tfc), len(TISSUES))
    torch.testing.assert_close(fractions.sum(dim=-1), torch.ones(fractions.shape[:2]))
