"""Generates pages of this folder: `make docs`."""
