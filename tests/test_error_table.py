"""Errors as text: with their interval where there is one."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.fixture
def error_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("error_table")


@pytest.mark.parametrize(
    ("figures", "sign", "text"),
    [
        ((1.0, 0.5, 2.345), "", "1.00 (0.50 to 2.35)"),
        ((1.0, -0.5, 2.0), "+", "+1.00 (-0.50 to +2.00)"),
        ((1.0, None, None), "+", "+1.00 (n/a to n/a)"),
        ((None, None, None), "", "n/a (n/a to n/a)"),
    ],
)
def test_a_figure_has_two_decimals_or_is_not_available(
    error_table: ModuleType, figures: tuple[float | None, ...], sign: str, text: str
) -> None:
    assert error_table.with_interval(*figures, sign=sign) == text


def test_a_table_of_four_people_has_errors_and_no_intervals(
    error_table: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row errs by one year, the other by three; intervals ask for five people."""
    ages = np.array([30.0, 40.0, 50.0, 60.0])
    rows = {"plain": ages + 1, "other": ages - 3}
    error_table.print_errors(rows, ages, np.array(list("abcd")), "plain")
    assert capsys.readouterr().out.splitlines() == [
        "plain  1.00 (n/a to n/a)   +0.00 (n/a to n/a) years",
        "other  3.00 (n/a to n/a)   +2.00 (n/a to n/a) years",
    ]
