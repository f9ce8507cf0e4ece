"""Years by family of description: of a scan that differs in one family, that family's alone."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ermoe_ba.model.config import FAMILIES, TISSUES
from ermoe_ba.model.ermoe import ErmoeBrainAge

SCRIPT = Path(__file__).parents[1] / "pipelines" / "families.py"
CHANGED = "contrast"


@pytest.fixture
def member(make_member: Callable[..., ErmoeBrainAge]) -> ErmoeBrainAge:
    """A network whose cohort's mean is exact in half precision, as descriptions are kept."""
    member = make_member()
    with torch.no_grad():
        member.location_tfc.copy_(member.location_tfc.half().float())
    return member


def test_years_are_those_of_what_differs(
    member: ErmoeBrainAge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cohort's young are the mean brain: content tells no years of them, routing may."""
    described = member.location_tfc.clone()
    described[:, list(FAMILIES).index(CHANGED), TISSUES.index("cortex")] += 2.0
    mean_brain = member.location_tfc.half()
    (tmp_path / "kept").mkdir()
    save_file(
        {"test": torch.stack([mean_brain] * 3)[:, None]},
        tmp_path / "kept" / "fold-0_described.safetensors",
    )
    # The third is not below 32 years, and left out.
    rows = "".join(f"{n:02}\t0\t{age}\t50.0\n" for n, age in enumerate((25.0, 30.0, 60.0)))
    header = "participant_id\tfold\tchronological_age\tpredicted_age\n"
    (tmp_path / "fold-0_predictions.tsv").write_text(header + rows, encoding="utf-8")

    def describe(image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (1, 2, 2, 2)
        return described[None]

    monkeypatch.setattr(member, "describe", describe)
    monkeypatch.setattr(
        "ermoe_ba.checkpoint.load_fold", lambda *_: SimpleNamespace(members=[member])
    )
    monkeypatch.setattr("ermoe_ba.model_card.read_card", lambda _: SimpleNamespace(preprocess=None))
    image = SimpleNamespace(data=np.zeros((2, 2, 2), np.float32))
    monkeypatch.setattr(
        "ermoe_ba.preprocess.Preprocessor", lambda _: lambda __: SimpleNamespace(image=image)
    )
    monkeypatch.setattr(sys, "argv", ["families.py", str(tmp_path), "scan.nii"])
    # A recipe is no module of the package, and this one is all of a piece.
    defined: dict[str, Any] = runpy.run_path(str(SCRIPT))

    with torch.inference_mode():
        output = member.read_age(described[None])
        of_mean = member.read_age(mean_brain[None].float())
    years_q = defined["years_q"]
    assert years_q.sum() == pytest.approx(float(output.age_b - output.baseline), abs=1e-4)
    by_family = years_q[:-1].reshape(len(FAMILIES), len(TISSUES))
    changed = (list(FAMILIES).index(CHANGED), TISSUES.index("cortex"))
    # Printed to a tenth: a share that shows.
    assert abs(by_family[changed]) > 0.1
    by_family[changed] = 0.0
    np.testing.assert_allclose(by_family, 0.0, atol=1e-5)
    young_nq = defined["young_nq"]
    assert len(young_nq) == 2
    np.testing.assert_allclose(young_nq[:, :-1], 0.0, atol=1e-5)
    apart = float(output.age_b - of_mean.age_b)
    assert f"scan.nii: {apart:+.1f} years against the young" in capsys.readouterr().out
