"""How fast norms are, beside what their users would take instead."""
