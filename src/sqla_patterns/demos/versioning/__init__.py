"""Demos of `sqla_patterns.versioning`."""
