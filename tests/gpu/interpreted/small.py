"""Tiles of a few elements, so that small tensors have several of them."""

SMALL = {"TILE": 16, "MAX_COLUMNS": 8, "MIN_COLUMNS": 4, "CELLS": 2, "PARTS": 2}
