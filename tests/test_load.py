"""How evenly tokens are shared out, against closed forms."""

import pytest
import torch

from ermoe_ba.model.load import Load, load_entropy, load_gini


def test_gini_of_equal_loads_is_zero() -> None:
    assert load_gini(torch.full((5,), 0.4)) == 0.0


@pytest.mark.parametrize("experts", [2, 5, 8])
def test_gini_of_one_loaded_expert_is_one_less_its_share(experts: int) -> None:
    load = torch.zeros(experts)
    load[1] = 0.7
    assert float(load_gini(load)) == pytest.approx((experts - 1) / experts)


def test_gini_by_hand() -> None:
    """1, 2, 3: differences 1, 2, 1 counted twice are 8; 8 / (2 * 3 * 6)."""
    assert float(load_gini(torch.tensor([1.0, 2, 3]))) == pytest.approx(8 / 36)


def test_entropy_by_hand() -> None:
    """(3, 1): -(.75 log2 .75 + .25 log2 .25) = .8113 bits of one."""
    assert float(load_entropy(torch.tensor([0.4, 0.4]))) == pytest.approx(1.0)
    assert float(load_entropy(torch.tensor([3.0, 1.0]))) == pytest.approx(0.8113, abs=1e-4)
    assert float(load_entropy(torch.tensor([2.0, 0.0, 0.0]))) == 0.0
    assert float(load_entropy(torch.tensor([1.0]))) == 1.0


def test_loads_are_counted_over_all_tokens_of_all_scans() -> None:
    """Six tokens: the first expert serves four of them, the second two, the third none."""
    selected = torch.zeros(2, 3, 3, dtype=torch.bool)
    selected[0, :, 0] = selected[1, 0, 0] = selected[1, 1:, 1] = True
    fallback = torch.tensor([[False, False, False], [False, False, True]])
    load = Load.of(selected, fallback)
    torch.testing.assert_close(load.share_e, torch.tensor([4 / 6, 2 / 6, 0.0]))
    assert int(load.dead_experts) == 1
    assert float(load.fallback_share) == pytest.approx(1 / 6)
    # Differences 2/6, 4/6, 2/6, counted twice: 16/6; over 2 x 3 x 1.
    assert float(load.gini) == pytest.approx(16 / 36)
