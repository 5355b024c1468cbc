"""AST to typed IR: names, axes, kinds, and what the clauses stand for."""
