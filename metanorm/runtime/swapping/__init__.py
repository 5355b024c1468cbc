"""Layers of a model that is already there, replaced by generated norms."""
