"""The lifespan phantom: simulated T1w brains whose ageing is known."""
