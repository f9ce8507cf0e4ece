"""ERMoE-ba: brain age from one T1-weighted MRI, read from eigen-reparameterised experts."""

__version__ = "0.1.0"
