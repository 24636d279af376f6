"""Class hierarchies in one, joined or concrete tables."""
