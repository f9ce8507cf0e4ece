"""Words of the report: what is unknown is left out, and what speaks against an age is said."""

import pytest
from report_content import NAMES, content, text_of, undrawn, with_row

from ermoe_ba.report.content import in_words, signed
from ermoe_ba.report.experts import model_worth
from ermoe_ba.report.figures import draw_routing_weights
from ermoe_ba.report.html import render

# Fixtures, which pytest finds by name.
__all__ = ["undrawn"]


@pytest.mark.parametrize("unknown", [None, float("nan"), "n/a", ""])
def test_an_unknown_age_is_left_out(unknown, undrawn):
    text = text_of(render(with_row(chronological_age=unknown, brain_age_gap=unknown)))
    assert "Chronological age" not in text
    assert "Brain age gap" not in text
    assert "diamond" not in text
    assert "52.3 years" in text
    assert "nan" not in text.split()


def test_a_missing_interval_is_admitted(undrawn):
    text = text_of(render(with_row(predicted_age_lower=None, predicted_age_upper=None)))
    assert "gives no prediction interval" in text
    assert "%" not in text


@pytest.mark.parametrize("factor", [1.0, None, "n/a"])
def test_a_width_like_the_cohort_s_is_not_spoken_of(factor, undrawn):
    assert "as wide" not in text_of(render(with_row(interval_widening=factor)))


def test_a_wider_interval_is_told_with_its_factor_and_its_reason(undrawn):
    text = text_of(render(with_row(interval_widening=1.374, qc_flags="interval_widened")))
    assert "63.4 years, 1.37 times as wide as that of a scan like the training cohort's" in text
    assert "looks unlike that of the scans that the model learnt from" in text
    assert "widened by what simulated scanners did" in text


def test_remarks_put_flags_and_strange_ages_in_words(undrawn):
    text = text_of(
        render(
            with_row(
                qc_flags="brain_already_extracted;low_contrast",
                chronological_age=91.0,
                status="warning",
            )
        )
    )
    assert "Before you use this result" in text
    assert "The scan came without skull" in text
    assert "Low contrast." in text
    assert "Status: Warning." in text
    assert "chronological age of 91.0 years lies outside the ages of the training" in text
    assert "The predicted age of" not in text
    assert "lies outside the interval" in text


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ("yes", "trained on this very scan"),
        ("name", "trained on a participant of this name"),
        ("no", ""),
        (None, ""),
        ("n/a", ""),
    ],
)
def test_a_scan_of_the_training_is_told_as_one(undrawn, seen, says):
    text = text_of(render(with_row(seen_in_training=seen)))
    assert ("The model was trained on" in text) == bool(says)
    assert says in text


def test_an_expert_that_changes_nothing_says_so(undrawn):
    text = text_of(render(content()))
    # 6.13 - 5.0 is a loss; 5.09 - 5.0 lies below 0.1 years; with 4.2 the model would be better off.
    assert text.count("grows from 5.0 to 6.1 years") == 1
    assert text.count("Removing this expert changes nothing") == 1
    assert "is 5.09 years without it and 5.00 with all. Read nothing into its map." in text
    assert "is smaller without it: 4.20 years against 5.00 with all" in text
    unmeasured = text_of(render(content(model_mae=None, mae_without_expert={})))
    assert unmeasured.count("was not measured") == 3
    assert "changes nothing" not in unmeasured


def test_beside_the_maps_stands_what_the_model_owes_to_all_experts(undrawn):
    interfered = {"zeroed": 14.94, "random_routing": 5.81, "other_subject_routing": 6.02}
    text = text_of(render(content(mae_interfered=interfered)))
    owed = (
        "its mean absolute error, 5.0 years out of fold on its training cohort, becomes 14.9 with "
        "all experts silenced, 5.8 with random routing and 6.0 with other people's routing."
    )
    assert text.count(owed) == 1
    assert text.index("Where does the age come from?") < text.index(owed) < text.index("Load share")
    assert "becomes" not in text_of(render(content()))


@pytest.mark.parametrize(
    ("without", "verdict"),
    [
        # The limit of 0.1 years from either side, and from below.
        (5.2, "MAE 5.2 years without it (5.0 with all)"),
        (5.05, "MAE 5.0 years without it: its removal changes nothing"),
        (4.95, "MAE 5.0 years without it: its removal changes nothing"),
        (4.5, "MAE 4.5 years without it: the model is better off (5.0 with all)"),
    ],
)
def test_the_face_of_a_map_tells_what_the_model_owes_to_it(without, verdict):
    shown = content(mae_without_expert=dict.fromkeys(NAMES, without))
    assert model_worth(shown).in_short("csf") == verdict
    unmeasured = content(model_mae=None, mae_without_expert={})
    assert model_worth(unmeasured).in_short("csf") == "worth not measured"
    other = content(mae_without_expert=dict.fromkeys(NAMES, 9.9))
    assert draw_routing_weights(shown) != draw_routing_weights(other)


def test_signs_and_words():
    assert [signed(x) for x in (1.26, -0.04, 0.0, -3.0)] == ["+1.3", "±0.0", "±0.0", "−3.0"]
    assert [in_words(x) for x in ("grey_matter", "csf", "free_1", "")] == [
        "Grey matter",
        "CSF",
        "Free 1",
        "",
    ]
