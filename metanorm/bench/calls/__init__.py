"""Where the microseconds of a call with a small input go: `metanorm bench --calls`."""
