"""Demos of `sqla_patterns.generic_associations`: addresses of customers and of suppliers, under four strategies."""
