"""The network: what it is made of and what it returns; it knows no files."""
