"""Rows with a key and a value as a dictionary of the object that they belong to."""
