"""The same ages however the network is run: exported, compiled, in mixed precision."""

import io
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ermoe_ba.model.ermoe import ErmoeBrainAge

pytestmark = pytest.mark.usefixtures("one_torch_thread")

MakeMember = Callable[..., ErmoeBrainAge]
# What two ways to run one network may differ by, in years.
TOLERANCE = 1e-3


class _Ages(nn.Module):
    """The inference path: scans in; ages and contributions out."""

    def __init__(self, member: ErmoeBrainAge) -> None:
        super().__init__()
        self.member = member

    def forward(self, t1w_bijk: Tensor) -> tuple[Tensor, Tensor]:
        output = self.member(t1w_bijk)
        return output.age_b, output.contributions_bte


@torch.no_grad()
def test_an_exported_and_saved_network_gives_the_same_ages(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    inference = _Ages(make_member())
    file = io.BytesIO()
    torch.export.save(torch.export.export(inference, (small_scans,)), file)
    file.seek(0)
    exported = torch.export.load(file).module()
    # Not the scans it was traced with.
    for scans in (small_scans, 0.7 * small_scans.flip(0)):
        for found, expected in zip(exported(scans), inference(scans), strict=True):
            torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert (inference(0.7 * small_scans)[0] - inference(small_scans)[0]).abs().min() > TOLERANCE


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@torch.no_grad()
def test_a_compiled_network_gives_the_same_ages(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    inference = _Ages(make_member())
    compiled = torch.compile(inference)
    for scans in (small_scans, 0.7 * small_scans.flip(0)):
        for found, expected in zip(compiled(scans), inference(scans), strict=True):
            torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_mixed_precision_rounds_the_stem_and_nothing_after_it(
    make_member: MakeMember, small_scans: Tensor
) -> None:
    """From the tissue that a rounded stem sees on, routing and ages are those of float32."""
    member = make_member()
    with torch.autocast("cpu", torch.bfloat16):
        output = member(small_scans)
        described = member.describe(small_scans).float()
    expected = member.read_age(described)
    torch.testing.assert_close(output.age_b, expected.age_b, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(output.routing.scores_bte, expected.routing.scores_bte)
    assert output.routing.scores_bte.dtype == torch.float32
    exact = member(small_scans)
    # The rounding was there: bfloat16 keeps one part in 256.
    moved = (output.fractions_btc - exact.fractions_btc).abs().max()
    assert 0 < moved < 8 / 256
