"""Effects that papers claim of norms, each measured on small data."""
