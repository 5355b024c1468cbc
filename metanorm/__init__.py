"""metanorm: a compiler for normalization layers."""
