"""What the charts of a run call its experts."""

from ermoe_ba.evaluation.run_record import RunRecord
from ermoe_ba.report.run_charts import errors_without_expert


def test_experts_are_called_as_on_the_other_pages() -> None:
    metrics = {"probe_mae_without_expert": [5.9, 6.0, 5.6]}
    named = RunRecord(metrics=metrics, expert_names=("grey_matter", "csf", "free_1"))
    assert errors_without_expert(named) == [("Grey matter", 5.9), ("CSF", 6.0), ("Free 1", 5.6)]
    # Of a model that cannot be read, by number.
    assert errors_without_expert(RunRecord(metrics=metrics))[2] == ("expert 3", 5.6)
