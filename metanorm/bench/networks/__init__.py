"""Times small networks with generated norms and with layers of others: `--networks`."""
