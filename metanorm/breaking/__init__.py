"""What a change of a spec means for those who use its module: state dicts, calls, numbers."""
