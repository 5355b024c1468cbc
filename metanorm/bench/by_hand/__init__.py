"""Times norms beside the layers that people use and write instead: `metanorm bench --by-hand`."""
