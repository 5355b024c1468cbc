"""The reference meaning of a program, computed the slow way."""
