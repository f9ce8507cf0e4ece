"""Changed copies of scans: masks only take away, and the first copy is the scan itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_study import make_scan

from ermoe_ba.dataset import PreparedScan
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Volume
from ermoe_ba.training.age import scan_variants
from ermoe_ba.training.augment import ScanVariants, jitter_mask

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["make_scan"]


def test_a_jittered_mask_only_ever_takes_away(small_brain: Volume) -> None:
    """Every voxel keeps its intensity or loses it, and never from deep inside the brain."""
    random = np.random.default_rng(0)
    brain = small_brain.data > 0
    t1w = random.uniform(0.5, 1.3, brain.shape).astype(np.float32)
    t1w[0, 0, 0] = 0.0
    kinds = set()
    for _ in range(60):
        cut = jitter_mask(t1w, brain, random)
        assert ((cut == t1w) | (cut == 0)).all()
        assert (cut[5:8, 7:10, 4:7] == t1w[5:8, 7:10, 4:7]).all()
        kept = (cut > 0).sum()
        kinds.add(int(kept))
        if kept < (t1w > 0).sum():
            assert (cut[~brain] == 0).all()
    # As it is, without the rim, eroded all over, and eroded in patches of more than one pattern.
    assert len(kinds) >= 4
    assert {int((t1w > 0).sum()), int(brain.sum())} <= kinds


def test_variants_are_other_pictures_of_the_same_size(
    make_scan: Callable[[str, float], PreparedScan],
) -> None:
    scan = make_scan("01", 0.5)
    before = scan.t1w.data.copy()
    first, again = ScanVariants(3), ScanVariants(3)
    pictures = [first(scan) for _ in range(3)]
    for picture in pictures:
        assert picture.shape == before.shape
        assert torch.isfinite(picture).all()
        assert torch.equal(picture, again(scan))
    assert not torch.equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(scan.t1w.data, before)


def test_the_first_variant_is_the_scan_itself(
    make_scan: Callable[[str, float], PreparedScan], make_member: Callable[..., ErmoeBrainAge]
) -> None:
    member, scans = make_member(), [make_scan("01", 0.3), make_scan("02", 0.8)]
    described = scan_variants(member.describe, scans, 2, seed=0)
    assert described.shape[:2] == (2, 3)
    for scan, variants in zip(scans, described, strict=True):
        whole = member.describe(torch.as_tensor(scan.t1w.data)[None])[0]
        torch.testing.assert_close(variants[0].float(), whole, atol=1e-3, rtol=0)
        assert (variants[1] != variants[0]).any()
        assert (variants[2] != variants[1]).any()
