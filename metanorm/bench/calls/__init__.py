"""Times the parts of a call with a small input: `metanorm bench --calls`."""
