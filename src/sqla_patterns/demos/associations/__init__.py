"""Demos of `sqla_patterns.associations`: association objects with proxies and without."""
