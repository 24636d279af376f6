"""Demos of `sqla_patterns.sharding`."""
