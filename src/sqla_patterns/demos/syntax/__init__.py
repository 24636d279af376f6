"""Demos of `sqla_patterns.syntax`."""
