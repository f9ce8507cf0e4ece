"""A BIDS data set as a source of scans: its T1w files, and the ages that its tables state."""

from ermoe_ba.bids.scans import DESCRIPTION, BidsScan, is_dataset, one_a_session, scans_of

__all__ = [
    "DESCRIPTION",
    "BidsScan",
    "is_dataset",
    "one_a_session",
    "scans_of",
]
