"""Demos of `sqla_patterns.graphs`."""
