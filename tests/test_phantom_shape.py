"""From an anatomy to a scan: volumes as planned without folds, images as acquired."""

from itertools import pairwise

import numpy as np
import pytest

from ermoe_ba.atlas import load_atlas
from ermoe_ba.phantom.acquisition import acquire, draw_site
from ermoe_ba.phantom.anatomy import Anatomy, even_box, nearest_label, template_anatomy
from ermoe_ba.phantom.brain import Brain
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.cortex import thin_cortex
from ermoe_ba.phantom.flow import Flow
from ermoe_ba.phantom.growth import GROWTH_RANGE, MOVED, Response, sources, squarings
from ermoe_ba.phantom.latents import Subject, draw_subject, stream
from ermoe_ba.phantom.lesions import draw_lesions
from ermoe_ba.phantom.norms import load_norms
from ermoe_ba.phantom.regions import LESION_INDEX, REGIONS, SULCAL_CSF_INDEX, Kind, indices
from ermoe_ba.phantom.shape import Shaper
from ermoe_ba.phantom.stage import LATERAL, THIRD, WIDER, Stages
from ermoe_ba.phantom.subject import scan_subject
from ermoe_ba.space import Array, SpatialGrid, Volume

CONFIG = PhantomConfig(seed=1)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return template_anatomy(load_atlas().dseg)


@pytest.fixture(scope="module")
def shaper(anatomy: Anatomy) -> Shaper:
    return Shaper(anatomy)


def _typical(age: float, cavity: float = 1400.0) -> Array:
    """Volumes at the norms' medians."""
    return np.asarray(np.exp(load_norms().log_fraction(np.array(age))) * cavity)


@pytest.fixture(scope="module")
def brains(shaper: Shaper) -> dict[int, Brain]:
    return {
        age: shaper.shape(_typical(age), 1400.0, (2.0, 1.9, 2.1), stream(CONFIG, age, "shape"), 1.0)
        for age in (20, 85)
    }


def _response() -> Response:
    """Regions that answer by 0.6, neighbours in the list pressing on each other by 0.1."""
    count = len(REGIONS)
    return Response(0.6 * np.eye(count) - 0.1 * np.eye(count, k=1) - 0.1 * np.eye(count, k=-1))


def test_growth_asked_for_first_answers_as_the_response_says() -> None:
    model, wanted = _response(), np.linspace(-0.5, 0.4, len(REGIONS))
    growth = model.first(wanted)
    np.testing.assert_allclose(model.predict(growth)[MOVED], wanted[MOVED], atol=1e-6)
    assert (growth[~MOVED] == 0).all()
    # By hand, a single region: 1 + answer x source for growth, exp(answer x sink) for loss.
    alone = np.zeros(len(REGIONS))
    alone[0] = np.log(3.0)
    assert model.predict(alone)[0] == pytest.approx(np.log(1 + 0.6 * 2.0))
    assert model.predict(alone)[1] == pytest.approx(-0.1 * 2.0)
    assert model.predict(-alone)[0] == pytest.approx(-0.6 * np.log(3.0))


def test_what_cannot_be_reached_stops_at_its_bound_and_pulls_no_neighbour() -> None:
    model, wanted = _response(), np.zeros(len(REGIONS))
    wanted[2] = -50.0
    growth = model.first(wanted)
    assert growth[2] == GROWTH_RANGE[0]
    others = MOVED.copy()
    others[2] = False
    np.testing.assert_allclose(model.predict(growth)[others], 0.0, atol=1e-6)


def test_time_is_halved_until_no_step_doubles_or_halves_a_volume() -> None:
    for growth in (np.array([0.1, -0.2]), np.array([2.0, 0.0]), np.array([0.0, -4.0])):
        step = sources(growth) / 2 ** squarings(growth)
        assert step.min() >= -0.5
        assert step.max() <= 1.0
    assert squarings(np.array([0.0, -4.0])) == 3


def _shares(anatomy: Anatomy) -> np.ndarray:
    """Volume of each region as a share of the cavity.

    Of voxels that no solid region has, the white matter is a deep region's and the grey a lobe's.
    """
    free = anatomy.solid == 0
    parts = ((anatomy.deep, anatomy.white), (anatomy.cortex, anatomy.grey))
    voxels = [
        (anatomy.cavity & (anatomy.solid == region.index)).sum()
        + sum(tissue[free & (owner == region.index)].sum() / 255 for owner, tissue in parts)
        for region in REGIONS
    ]
    return np.array(voxels) / anatomy.cavity.sum()


def test_stages_widen_the_ventricles_step_by_step(anatomy: Anatomy) -> None:
    stages = Stages(anatomy, Flow(anatomy.grid.shape))
    rest = _shares(anatomy)
    sizes = [stages.nearest(rest * WIDER**step).fractions for step in (0, 1, 2, 99)]
    np.testing.assert_allclose(sizes[0][MOVED], rest[MOVED], rtol=1e-3)
    for before, after in pairwise(sizes):
        ratio = after / np.maximum(before, 1e-9)
        np.testing.assert_allclose(ratio[LATERAL], WIDER, rtol=0.1)
        np.testing.assert_allclose(ratio[THIRD], WIDER, rtol=0.2)
        others = MOVED & ~LATERAL & ~THIRD
        # Others make room, but by a fifth of that at most: what is left the subject corrects.
        assert np.abs(np.log(ratio[others])).mean() < np.log(WIDER) / 5
    # Narrower ones than at rest need no stage.
    assert stages.nearest(rest / 5) is stages.nearest(rest)


def test_cortex_turns_to_fluid_until_its_volume_is_met() -> None:
    rng = np.random.default_rng(2)
    cortex = indices(Kind.CORTEX)
    owner = np.repeat([0, *cortex], 400)
    grey = rng.uniform(0, 1, len(owner)).astype(np.float32)
    fluid = (1 - grey) * np.float32(0.9)
    planted = np.zeros(len(REGIONS))
    planted[np.array(cortex) - 1] = np.linspace(100, 280, len(cortex))
    new_grey, new_fluid = thin_cortex(
        grey=grey, fluid=fluid, owner=owner, planted=planted, near=np.ones_like(grey)
    )
    for index in cortex:
        # Newton's method ends within half a voxel.
        assert new_grey[owner == index].sum() == pytest.approx(planted[index - 1], abs=0.6)
    np.testing.assert_allclose(new_grey + new_fluid, grey + fluid, atol=1e-5)
    np.testing.assert_array_equal(new_grey[owner == 0], grey[owner == 0])
    lost = owner == cortex[0]
    assert (new_grey[lost] <= np.clip(grey[lost], 0.01, None) + 1e-6).all()


def test_cortex_far_from_fluid_stays() -> None:
    index = indices(Kind.CORTEX)[0]
    near = np.repeat(np.array([0.0, 1.0], np.float32), 500)
    grey = np.full(1000, 0.6, np.float32)
    planted = np.zeros(len(REGIONS))
    planted[index - 1] = 450.0
    new, _ = thin_cortex(
        grey=grey,
        fluid=1 - grey,
        owner=np.full(1000, index),
        planted=planted,
        near=near,
    )
    np.testing.assert_allclose(new[:500], 0.6, rtol=1e-5)
    # 300 voxels stay inside; the other 500 must come down to 150 in all.
    np.testing.assert_allclose(new[500:], 0.3, atol=0.002)


def test_boxes_are_even_and_keep_places() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-5, 7, 11]
    data = np.zeros((12, 15, 9))
    data[3:6, 4:12, 8:9] = 1
    box, grid = even_box(Volume(data, SpatialGrid((12, 15, 9), affine, "t")), 1)
    # 5 voxels become 6; 10 stay 10; 2 at the end of the axis stay 2.
    assert grid.shape == (6, 10, 2)
    assert data[box].sum() == data.sum()
    start = [part.start for part in box]
    np.testing.assert_allclose(grid.affine[:3, 3], affine[:3, 3] + 2.0 * np.array(start))


def test_the_nearest_label_is_the_nearest_along_unequal_axes() -> None:
    labels = np.zeros((3, 5, 7), int)
    labels[0, 0, 0], labels[2, 4, 6], labels[1, 2, 3] = 4, 7, 9
    found = nearest_label(labels, [4, 7])
    assert (found[0, 1, 2], found[2, 3, 4], found[1, 2, 4]) == (4, 7, 7)
    assert set(np.unique(found)) == {4, 7}


def test_the_template_s_anatomy_is_a_partition(anatomy: Anatomy) -> None:
    total = anatomy.grey.astype(int) + anatomy.white + anatomy.fluid
    np.testing.assert_array_equal(np.unique(total), [0, 255])
    assert all(n % 2 == 0 for n in anatomy.grid.shape)
    free = anatomy.solid == 0
    sulci = (anatomy.fluid[free] / 255.0).sum() / anatomy.cavity.sum()
    # Regions and sulcal fluid make up the cavity; every region is there.
    shares = _shares(anatomy)
    assert shares.sum() + sulci == pytest.approx(1.0, abs=1e-6)
    assert shares.min() > 0
    assert set(np.unique(anatomy.labels())) == set(range(SULCAL_CSF_INDEX + 1))


def test_left_regions_lie_left(anatomy: Anatomy) -> None:
    labels, affine = anatomy.labels(), anatomy.grid.affine
    for region in REGIONS:
        x = affine[0, 0] * np.nonzero(labels == region.index)[0].mean() + affine[0, 3]
        if region.hemisphere != "n/a":
            assert (x < 0) == (region.hemisphere == "L"), region.name


@pytest.mark.parametrize("age", [20, 85])
def test_volumes_come_out_as_planted_without_folds(brains: dict[int, Brain], age: int) -> None:
    brain, planted = brains[age], _typical(age)
    large = planted > 3.0
    error = np.abs(brain.realised_ml / planted - 1)
    assert error[large].max() < 0.06
    assert error[large].mean() < 0.01
    assert brain.smallest_jacobian > 0
    assert brain.intracranial_ml == pytest.approx(1400.0, rel=0.01)


def test_label_maps_show_the_volumes_that_are_stated(brains: dict[int, Brain]) -> None:
    for brain in brains.values():
        counts = np.bincount(brain.labels(), minlength=len(REGIONS) + 1)[1 : len(REGIONS) + 1]
        volumes = counts * brain.grid.voxel_volume_ml
        solid = np.array([r.kind in (Kind.NUCLEUS, Kind.HINDBRAIN) for r in REGIONS])
        # Solids are whole voxels; rims of the hindbrain at the cavity's edge count in part.
        np.testing.assert_allclose(volumes[solid], brain.realised_ml[solid], rtol=0.06)


def test_old_brains_differ_from_young_ones_as_they_should(brains: dict[int, Brain]) -> None:
    old, young = (brains[age].realised_ml for age in (85, 20))
    change = dict(zip((r.name for r in REGIONS), old / young, strict=True))
    assert change["lateral_ventricle_L"] > 3
    assert change["frontal_cortex_R"] < 0.8
    fluid = {age: (b.fluid[b.solid == 0].sum() / b.intracranial_ml) for age, b in brains.items()}
    assert fluid[85] > fluid[20]


def test_lesions_have_their_volume_and_stay_in_white_matter(brains: dict[int, Brain]) -> None:
    brain = brains[85]
    lesions = draw_lesions(brain, 10.0, np.random.default_rng(0))
    # Blurred at the edge: what falls outside the drawn voxels is nothing.
    assert lesions.sum() * brain.grid.voxel_volume_ml == pytest.approx(10.0, rel=0.02)
    assert 0 <= lesions.min() < lesions.max() <= 1.0 + 1e-6
    core = lesions > 0.9
    assert core.any()
    assert (brain.white[core] > 0.9).all()
    assert not draw_lesions(brain, 0.0, np.random.default_rng(0)).any()


def test_tissues_keep_the_order_of_a_t1w_image(brains: dict[int, Brain]) -> None:
    brain = brains[20]
    site = draw_site(CONFIG, 1)
    image = acquire(brain, np.zeros(len(brain.voxels), np.float32), site, np.random.default_rng(0))
    values = image.data.ravel()[brain.voxels] / site.scale
    sure = {
        "white": (brain.white > 0.99) & (brain.solid == 0),
        "grey": (brain.grey > 0.95) & (brain.solid == 0),
        "fluid": np.isin(brain.solid, indices(Kind.VENTRICLE)) & (brain.fluid > 0.99),
    }
    white, grey, fluid = (np.median(values[where]) for where in sure.values())
    assert fluid < grey < white
    # Bias fields have about this spread; noise adds little to bright voxels.
    assert white == pytest.approx(1.0, abs=3 * site.bias_sd)
    assert image.data.dtype == np.int16
    assert image.data.min() >= 0


def test_sites_differ_and_stay_themselves() -> None:
    first, second = draw_site(CONFIG, 1), draw_site(CONFIG, 2)
    assert first == draw_site(PhantomConfig(seed=1, only=("insula",)), 1)
    assert first.grey != second.grey
    assert first.voxel_mm != second.voxel_mm


def test_a_scan_comes_with_its_truth(shaper: Shaper) -> None:
    subject: Subject = draw_subject(CONFIG, 3)
    scan = scan_subject(CONFIG, subject, shaper)
    assert scan.t1w.grid == scan.dseg.grid
    assert scan.dseg.grid.space == "scan"
    np.testing.assert_allclose(scan.t1w.grid.voxel_sizes, draw_site(CONFIG, subject.site).voxel_mm)
    assert scan.dseg.data.max() <= LESION_INDEX
    inside = (scan.dseg.data > 0).sum() * scan.dseg.grid.voxel_volume_ml
    assert inside == pytest.approx(scan.intracranial_ml, rel=0.02)
    assert scan.intracranial_ml == pytest.approx(subject.intracranial_ml, rel=0.02)
    again = scan_subject(CONFIG, subject, shaper)
    np.testing.assert_array_equal(again.t1w.data, scan.t1w.data)


def test_less_variation_of_shape_moves_less_and_plans_the_same_volumes(shaper: Shaper) -> None:
    """Borders move in proportion: a tenth of the way changes about a tenth as many voxels."""
    planned = _typical(50)
    shaped = {
        share: shaper.shape(planned, 1400.0, (2.0, 2.0, 2.0), stream(CONFIG, 1, "shape"), share)
        for share in (0.0, 0.1, 1.0)
    }
    labels = {share: brain.spread_out(brain.labels(), np.uint8) for share, brain in shaped.items()}
    still = labels[0.0]
    # One stream: all three lie on one grid.
    few, many = (np.count_nonzero(labels[share] != still) for share in (0.1, 1.0))
    assert 0 < few < 0.3 * many
    for brain in shaped.values():
        np.testing.assert_allclose(brain.realised_ml[:2].sum(), planned[:2].sum(), rtol=0.03)
