"""The model that the index of a batch shows its scans beside: one, and that which predicted."""

from pathlib import Path

from ermoe_ba.kept_results import KeptScan, ReportMaker
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder, read_card
from ermoe_ba.model_identity import model_identity


def _scans(*identities: str) -> list[KeptScan]:
    return [
        KeptScan(folder=Path(), name=f"sub-{number}", result={"model_id": identity})
        for number, identity in enumerate(identities)
    ]


def test_only_the_one_model_that_predicted_all_is_shown() -> None:
    folder = model_folder(DEFAULT_MODEL)
    card = read_card(folder)
    known = model_identity(folder, card)
    maker = ReportMaker(None, None)
    assert maker.card_of_all(_scans(known, known)) == card
    # Of other weights by that name, of a model that is not here, of several, of none.
    for identities in ((f"{DEFAULT_MODEL}-000000000000",), ("other-1",), (known, "other-1"), ()):
        assert maker.card_of_all(_scans(*identities)) is None
