"""Writes the first draft of a business from the catalog of its operational system."""
