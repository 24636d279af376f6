"""Demos of `sqla_patterns.caching`."""
