"""The read-out of selected experts: what all of them say, and silence of the others."""

import importlib
from pathlib import Path

import pytest
import torch

from ermoe_ba.model.experts import EigenExperts

PIPELINES = Path(__file__).parents[1] / "pipelines"


@torch.no_grad()
def test_the_selected_say_what_they_say_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven tokens and four experts, one of whom serves nobody."""
    monkeypatch.syspath_prepend(str(PIPELINES))
    sorted_readout = importlib.import_module("sorted_readout").sorted_readout
    torch.manual_seed(0)
    experts = EigenExperts(4, 12, 5, 7, 0.1)
    for parameter in experts.parameters():
        parameter.add_(torch.randn_like(parameter))
    u_edr, _ = experts.bases()
    z_bter = torch.randn(1, 7, 4, 5)
    selected = torch.rand(7, 4) < 0.5
    selected[:, 2], selected[0, 1] = False, True
    expected = experts(z_bter, u_edr)[0] * selected
    found = sorted_readout(experts, z_bter[0], u_edr, selected)
    torch.testing.assert_close(found, expected)
