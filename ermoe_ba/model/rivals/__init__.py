"""Other networks and other ways to route, to compare with: each a few dozen lines, cited."""
