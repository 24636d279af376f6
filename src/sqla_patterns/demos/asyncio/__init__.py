"""Demos of `sqla_patterns.asyncio`."""
