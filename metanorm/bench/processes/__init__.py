"""Times norms whose samples are divided among processes, and their messages: `--processes`."""
