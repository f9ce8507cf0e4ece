"""A fold as an ablation sees it: of which run, which copies and which volumes."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ablation_place import AGES, BASE, FOLDS, IDS, Place, place
from safetensors.torch import save_file

from ermoe_ba.errors import UsageError
from ermoe_ba.space import Volume
from ermoe_ba.study import StudyScan
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Fixtures, which pytest finds by name.
__all__ = ["place"]


def test_a_run_of_other_descriptions_is_refused(place: Place) -> None:
    path = place.kept / "recipe.json"
    kept = BASE.replace("stem_hidden = 4", "stem_hidden = 8")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"model\.stem_hidden = 8, the recipe asks for 4"):
        place.ablation().run()
    kept = BASE.replace("gain_sd = 0.05", "gain_sd = 0.5")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    with pytest.raises(UsageError, match="tissue"):
        place.ablation(resume=True).run()
    # How the age was trained there is no matter of the descriptions.
    kept = BASE.replace("num_epochs = 3", "num_epochs = 90").replace("rank = 5", "rank = 7")
    path.write_text(json.dumps({"text": kept}), encoding="utf-8")
    assert place.ablation(resume=True).run(0) is None


def test_a_run_of_other_people_is_refused(place: Place) -> None:
    with place.participants.open("a", encoding="utf-8") as file:
        file.write("sub-new\t44\n")
    with pytest.raises(UsageError, match="1 stand in one of them alone"):
        place.ablation().run()


def test_other_copies_are_described_once_with_the_stem_of_the_fold(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    small_tokens: TokenGrid,
    small_brain: Volume,
    make_member: Any,
) -> None:
    """Those of a row's own changes; the scans as they are come from what the run kept."""
    from ermoe_ba.dataset import PreparedScan
    from ermoe_ba.training.age import changed_copies

    member, seed = make_member(), place.recipe().base.run.seed
    save_file(member.stem.state_dict(), place.kept / "kept" / "fold-0_stem.safetensors")
    (place.folder / "raw").mkdir()
    for i in IDS:
        (place.folder / "raw" / f"{i}_T1w.nii.gz").write_text(i, encoding="utf-8")
    read: list[str] = []

    def prepared(participant_id: str) -> PreparedScan:
        random = np.random.default_rng(int(participant_id))
        data = random.uniform(0.3, 1.2, small_brain.grid.shape) * small_brain.data
        return PreparedScan(
            participant_id=participant_id,
            t1w=small_brain.same_grid(data.astype(np.float32)),
            brain_mask=small_brain,
            labels=None,
        )

    class FakeCohort:
        """Stands for `PreparedCohort`."""

        def __init__(self, *_: Any) -> None: ...

        def prepare(self, scan: StudyScan) -> None: ...

        def read(self, scan: StudyScan) -> PreparedScan:
            read.append(scan.participant_id)
            return prepared(scan.participant_id)

    module = "ermoe_ba.training.ablation_fold"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    monkeypatch.setattr("ermoe_ba.training.described_copies.token_grid", lambda _: small_tokens)
    recipe = place.recipe()
    fold, base = place.fold(recipe), recipe.base.age
    kept = fold.described(base)
    assert read == []
    flipped = replace(base, changes=base.changes.alone("flip"))
    found = fold.described(flipped)
    assert sorted(read) == [i for i in IDS if FOLDS[i] != 0]
    assert torch.equal(found.train[:, 0], kept.train[:, 0])
    assert torch.equal(found.test, kept.test)
    scans = [prepared(i) for i in IDS if FOLDS[i] != 0]
    expected = changed_copies(member.describe, scans, 1, seed, flipped.changes)
    assert torch.equal(found.train[:, 1:], expected)
    # Another fold object, as a process that goes on has: nothing is described again.
    assert torch.equal(place.fold(recipe).described(flipped).train, found.train)
    assert len(read) == 8
    # None are wanted: none are made.
    assert fold.described(replace(base, num_variants=0)).train.shape[1] == 1
    assert len(read) == 8
    # Other scans and another stem are other descriptions.
    moved = fold.moved("flip")
    assert sorted(read[8:]) == [i for i in IDS if FOLDS[i] == 0]
    assert moved.shape == kept.test.shape
    save_file(make_member(1).stem.state_dict(), place.kept / "kept" / "fold-0_stem.safetensors")
    assert not torch.equal(fold.moved("flip"), moved)


def test_a_run_of_other_copies_is_refused(place: Place) -> None:
    """Defaults that are written out are the same; other sizes are not."""
    path = place.kept / "recipe.json"
    for size, refused in ((0.03, False), (0.5, True)):
        kept = f"{BASE}[age.changes]\nnoise = {{ deviation = {size} }}\n"
        path.write_text(json.dumps({"text": kept}), encoding="utf-8")
        if refused:
            with pytest.raises(UsageError, match=r"age\.changes"):
                place.fold(place.recipe())
        else:
            place.fold(place.recipe())


def test_volumes_follow_the_participants_of_the_fold(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    small_brain: Volume,
) -> None:
    from ermoe_ba.dataset import PreparedScan
    from ermoe_ba.model.rivals.volume import VolumeNetwork

    class FakeCohort:
        """Stands for `PreparedCohort`: every voxel of a scan is a hundredth of its age."""

        def __init__(self, *_: Any) -> None: ...

        def prepare(self, scan: StudyScan) -> None:
            assert scan.t1w == place.folder / "raw" / f"{scan.participant_id}_T1w.nii.gz"

        def read(self, scan: StudyScan) -> PreparedScan:
            data = np.full(small_brain.grid.shape, AGES[scan.participant_id] / 100, np.float32)
            return PreparedScan(
                participant_id=scan.participant_id,
                t1w=small_brain.same_grid(data),
                brain_mask=small_brain,
                labels=None,
            )

    module = "ermoe_ba.training.ablation_fold"
    monkeypatch.setattr(f"{module}.PreparedCohort", FakeCohort)
    monkeypatch.setattr(f"{module}.Preprocessor", lambda _: None)
    fold = place.fold(place.recipe())
    inputs = fold.volumes(VolumeNetwork("sfcn", reduce=2), fold.recipe.age)
    assert inputs.train.shape == (8, 2, 6, 8, 5)
    assert inputs.test.shape == (4, 6, 8, 5)
    np.testing.assert_allclose(100 * inputs.test[:, 1, 1, 1], fold.test_ages, atol=0.1)
    np.testing.assert_allclose(100 * inputs.train[:, 0, 1, 1, 1], fold.train_ages, atol=0.1)
