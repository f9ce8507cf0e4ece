"""Changed copies of scans: each change alone, none moving the draws of another, by the recipe."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
)

from ermoe_ba.config import changed
from ermoe_ba.dataset import PreparedScan
from ermoe_ba.space import Array, SpatialGrid, Volume
from ermoe_ba.training.augment import MASK_KINDS, ScanVariants, elastic_magnitude, jitter_mask
from ermoe_ba.training.change_config import (
    CHANGES,
    UNCHANGED,
    USUAL,
    ChangeConfig,
    Elastic,
    Flip,
    Gain,
    Noise,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def _scan(t1w: Array, brain: Array) -> PreparedScan:
    grid = SpatialGrid(t1w.shape, np.diag([2.0, 2.0, 2.0, 1.0]), "test")
    return PreparedScan(
        participant_id="01",
        t1w=Volume(t1w.astype(np.float32), grid),
        brain_mask=Volume(brain.astype(np.uint8), grid),
        labels=None,
    )


@pytest.fixture
def scan(small_brain: Volume) -> PreparedScan:
    random = np.random.default_rng(2)
    brain = small_brain.data > 0
    # The rim beyond the brain has values too.
    return _scan(random.uniform(0.3, 1.2, brain.shape), brain)


def test_the_defaults_draw_what_the_shipped_model_was_trained_on(scan: PreparedScan) -> None:
    """Its list of changes, written out: other draws would be another model."""
    random = np.random.default_rng(7)
    reference = Compose(
        [
            RandFlip(prob=0.5, spatial_axis=0),
            RandAffine(
                prob=0.8,
                rotate_range=(0.02, 0.02, 0.02),
                translate_range=(0.5, 0.5, 0.5),
                scale_range=(0.015, 0.015, 0.015),
                mode="bilinear",
                padding_mode="zeros",
            ),
            RandGaussianSmooth(prob=0.5, sigma_x=(0, 0.8), sigma_y=(0, 0.8), sigma_z=(0, 0.8)),
            RandBiasField(prob=0.3, coeff_range=(0.0, 0.03)),
            RandAdjustContrast(prob=0.3, gamma=(0.9, 1.1)),
            RandGaussianNoise(prob=0.5, std=0.03),
        ]
    )
    reference.set_random_state(7)
    variants = ScanVariants(7)
    for _ in range(12):
        cut = jitter_mask(scan.t1w.data, scan.brain_mask.data > 0, random, 0.5)
        expected = reference(torch.as_tensor(cut)[None]).as_tensor()[0]
        assert torch.equal(variants(scan), expected.float())


def test_of_masks_half_are_as_they_were_and_the_rest_in_their_shares() -> None:
    """What was ``p = (.5, .2, .15, .15)`` is now a half by kinds, to the last bit."""
    assert [0.5 * kind for kind in MASK_KINDS] == [0.2, 0.15, 0.15]
    assert sum(MASK_KINDS) == 1


def test_a_change_that_is_left_out_is_not_made(scan: PreparedScan) -> None:
    variants = ScanVariants(0, UNCHANGED)
    for _ in range(5):
        assert torch.equal(variants(scan), torch.as_tensor(scan.t1w.data))


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_can_be_made_alone_and_in_every_copy(name: str, scan: PreparedScan) -> None:
    config = USUAL.alone(name)
    for other in CHANGES:
        assert getattr(config, other).probability == (other == name)
        sizes = replace(getattr(config, other), probability=0.0)
        assert sizes == replace(getattr(USUAL, other), probability=0.0)
    variants, before = ScanVariants(1, config), torch.as_tensor(scan.t1w.data)
    assert all(not torch.equal(variants(scan), before) for _ in range(4))


def test_a_flip_exchanges_left_and_right_and_nothing_else(scan: PreparedScan) -> None:
    found = ScanVariants(4, USUAL.alone("flip"))(scan).numpy()
    np.testing.assert_array_equal(found, scan.t1w.data[::-1])


def test_gain_multiplies_by_at_most_its_share(scan: PreparedScan) -> None:
    variants = ScanVariants(5, replace(UNCHANGED, gain=Gain(probability=1.0, share=0.2)))
    inside = scan.t1w.data > 0
    gains = []
    for _ in range(20):
        ratio = variants(scan).numpy()[inside] / scan.t1w.data[inside]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
        gains.append(ratio[0])
    assert 0.8 <= min(gains) < 0.9
    assert 1.1 < max(gains) <= 1.2


def test_a_change_does_not_move_the_draws_of_another(scan: PreparedScan) -> None:
    """Noise comes after the flip: what it adds is the same with a flip, a warp or neither."""
    noise = replace(UNCHANGED, noise=Noise(probability=1.0, deviation=0.1))
    still = Elastic(probability=1.0, displacement=0.0)
    added = {}
    for name, config in (
        ("alone", noise),
        ("flipped", replace(noise, flip=Flip(probability=1.0))),
        ("warped", replace(noise, elastic=still)),
    ):
        found = ScanVariants(6, config)(scan).numpy()
        before = scan.t1w.data[::-1] if name == "flipped" else scan.t1w.data
        added[name] = found - before
    assert added["alone"].std() > 0.01
    np.testing.assert_allclose(added["flipped"], added["alone"], atol=1e-6)
    # Sampling at its own voxels gives a scan back but for rounding.
    np.testing.assert_allclose(added["warped"], added["alone"], atol=1e-4)


def test_a_warp_moves_tissue_as_far_as_it_says() -> None:
    """On a ramp of one a voxel along an axis, the change of the value is the displacement."""
    shape, depth = (44, 40, 48), 12
    wanted = Elastic(probability=1.0, displacement=0.7, smoothness=2.5)
    deviations = []
    for axis in range(3):
        ramp = np.indices(shape)[axis].astype(np.float32)
        scan = _scan(ramp, np.ones(shape, dtype=bool))
        moved = ScanVariants(8, replace(UNCHANGED, elastic=wanted))(scan).numpy() - ramp
        # Beyond the image there is nothing to sample.
        inner = moved[depth:-depth, depth:-depth, depth:-depth]
        deviations.append(inner.std())
        assert abs(inner.mean()) < 0.2
    # Some 60 independent patches an axis: the deviation is known to a tenth.
    np.testing.assert_allclose(deviations, 0.7, rtol=0.25)
    assert np.mean(deviations) == pytest.approx(0.7, rel=0.12)


def test_the_size_of_a_warp_by_hand() -> None:
    """At s = 1 / (2 sqrt(pi)) the Gaussian's squares sum to 1: only the uniform's sqrt(3) stays."""
    assert elastic_magnitude(2.0, 0.5 / np.sqrt(np.pi)) == pytest.approx(2.0 * np.sqrt(3.0))
    # A Gaussian twice as wide averages over eight times as many voxels.
    assert elastic_magnitude(1.0, 6.0) == pytest.approx(8**0.5 * elastic_magnitude(1.0, 3.0))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"flip": {"probability": 1.5}}, "probability must lie between 0 and 1; found 1.5"),
        ({"noise": {"deviation": -0.1}}, "deviation must be 0 or more; found -0.1"),
        ({"noise": {"sd": 0.1}}, "sd"),
        ({"mirror": {"probability": 0.5}}, "mirror"),
        ({"blur": 0.5}, "blur"),
    ],
)
def test_wrong_settings_of_a_change_are_refused(content: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        changed(USUAL, content)


def test_settings_within_settings_change_alone() -> None:
    found = changed(USUAL, {"affine": {"rotation": 0.5}, "noise": {"probability": 1}})
    assert found.affine == replace(USUAL.affine, rotation=0.5)
    assert found.noise == replace(USUAL.noise, probability=1.0)
    assert replace(found, affine=USUAL.affine, noise=USUAL.noise) == USUAL == ChangeConfig()
    with pytest.raises(TypeError, match="are no settings"):
        changed({"affine": 1}, {})
