"""Defaults before the flush, change events, and values outside of ``__dict__``."""
