"""From prepared scans to trained members, out of fold."""
