"""The version of the compiler. Generated files carry it in their header."""

__version__ = "0.1.0"
