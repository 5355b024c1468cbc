"""Norms beside the layers that people use and write instead, on one input each."""
