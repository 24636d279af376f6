"""Demo of `sqla_patterns.dicts`."""
