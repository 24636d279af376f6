"""A dictionary over a collection that is never loaded whole."""
