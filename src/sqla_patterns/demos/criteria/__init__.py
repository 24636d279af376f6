"""Demos of `sqla_patterns.criteria`."""
