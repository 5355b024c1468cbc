"""Text to tree to AST, and AST to formatted text."""
