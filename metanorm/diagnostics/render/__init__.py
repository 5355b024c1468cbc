"""Renderers: diagnostics and sources in, text out. The only place that lays them out."""
