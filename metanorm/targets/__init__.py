"""Optimised IR to code."""
