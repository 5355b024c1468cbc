"""Tiles of a few elements, so that small tensors have several of them."""

SMALL = {"TILE": 16, "WIDEST": 8, "NARROWEST": 4, "CELLS": 2, "PARTS": 2}
