"""Small networks with generated norms beside the same with others': `metanorm bench --networks`."""
