"""Association objects, behind proxies and without."""
