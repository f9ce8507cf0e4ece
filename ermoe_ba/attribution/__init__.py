"""Where a network's age comes from: its own contributions held against other ways of asking."""
