"""Scores of experts: cosines in their bases, by hand and as torch would differentiate them."""

import pytest
import torch
from hand_router import all_free, tokens_of
from torch import Tensor
from torch.nn import functional

from ermoe_ba.model.orthogonal import complement_columns, orthonormal_columns
from ermoe_ba.model.routing import cosines, cosines_by_complement

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_scores_are_cosines_in_each_experts_basis() -> None:
    """(3, 4) and (4, 3): 24 / 25; (1, 0) and (0, 2): 0; (1, 2) and (-2, -4): -1."""
    z = torch.tensor([[[[3.0, 4.0], [1.0, 0.0], [1.0, 2.0]]]])
    context = torch.tensor([[[[4.0, 3.0], [0.0, 2.0], [-2.0, -4.0]]]])
    routing = all_free(top_k=1)(z, context, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.scores_bte, tokens_of((0.96, 0.0, -1.0)))
    assert routing.weights_bte.tolist() == [[[1.0, 0.0, 0.0]]]


def test_cosines_and_their_gradients_are_those_of_torch() -> None:
    torch.manual_seed(0)
    x, y, upstream = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    gradients = []
    for cosine in (cosines, lambda a, b: functional.cosine_similarity(a, b, dim=-1)):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        value = cosine(a, b)
        value.backward(upstream)
        gradients.append((value.detach(), a.grad, b.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)
    # Two vectors by hand: (3, 4) and (4, 3) make 24 / 25.
    assert cosines(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])).item() == pytest.approx(0.96)


def test_cosines_by_what_lies_outside_by_hand() -> None:
    """(3, 4) and (4, 3) in the plane of two axes, whatever they are along the third: 24 / 25.

    A vector of no length scores 0, and so does one that lies outside but for rounding.
    """
    third = torch.tensor([[[0.0], [0.0], [1.0]]])
    x = torch.tensor([[[3.0, 4.0, 12.0], [0.0, 0.0, 0.0], [0.0, 0.0, 7.0]]], requires_grad=True)
    y = torch.tensor([[[4.0, 3.0, -1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]])
    found = cosines_by_complement(x, y, third)
    torch.testing.assert_close(found, tokens_of((0.96,), (0.0,), (0.0,)))
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("rank", [4, 7, 9])
def test_cosines_by_complement_are_those_of_projections(rank: int) -> None:
    torch.manual_seed(0)
    raw, x, y = torch.randn(3, 10, rank), torch.randn(2, 6, 10), torch.randn(2, 6, 10)
    basis = orthonormal_columns(raw)
    expected = cosines(*(torch.einsum("btd,edr->bter", each, basis) for each in (x, y)))
    found = cosines_by_complement(x, y, complement_columns(basis))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_gradient_of_cosines_by_complement_is_that_of_their_differences() -> None:
    """To tokens, contexts and the weights that the bases come from."""
    torch.manual_seed(0)
    shapes = ((2, 2, 4), (2, 2, 4), (2, 4, 3))
    given_ = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def scores(x_btd: Tensor, y_btd: Tensor, raw_edr: Tensor) -> Tensor:
        outside_edk = complement_columns(orthonormal_columns(raw_edr))
        return cosines_by_complement(x_btd, y_btd, outside_edk)

    assert torch.autograd.gradcheck(scores, tuple(given_))


def test_a_token_that_projects_on_nothing_scores_zero() -> None:
    z = torch.tensor([[[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]])
    routing = all_free()(z, z, torch.zeros(1, 1, 0))
    torch.testing.assert_close(routing.scores_bte, tokens_of((0.0, 1.0, 1.0)))


def test_square_bases_score_all_alike_and_narrow_ones_do_not() -> None:
    """A rotation keeps cosines: with rank = hidden_size there is nothing to route by."""
    torch.manual_seed(0)
    x, context = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    cosines = torch.nn.functional.cosine_similarity(x, context, dim=-1)
    spread = {}
    for rank in (6, 3):
        basis = orthonormal_columns(torch.randn(3, 6, rank))
        z, c = (torch.einsum("btd,edr->bter", y, basis) for y in (x, context))
        scores = all_free()(z, c, torch.zeros(1, 4, 0)).scores_bte
        spread[rank] = (scores - cosines[..., None]).abs().amax().item()
    assert spread[6] < 1e-5
    assert spread[3] > 0.1
