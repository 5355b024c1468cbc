// Written by `make docs` from metanorm/syntax/words.py.
export const statements = ["affine", "axis", "backward", "buffer", "entry", "example", "gradient", "input", "let", "mix", "norm", "output", "param", "reduce", "repeat", "scale", "shift", "stat", "track", "update", "use"];
export const words = ["as", "by", "first", "for", "from", "gives", "if", "in", "init", "into", "like", "none", "of", "off", "over", "per", "weight", "where", "with", "within"];
export const sorts = ["bool", "edges", "float", "index", "int", "mask", "matrix", "offsets"];
export const literals = ["None", "false", "true"];
export const functions = ["abs", "affine", "bernoulli", "blocks", "cast", "causal", "cells", "chunks", "clamp", "concat", "cos", "count", "erf", "exp", "gelu", "interleave", "l1", "l2", "log", "max", "mean", "median", "min", "mode", "moments", "normal", "normalize", "permutation", "position", "quantile", "relu", "rms", "round", "rsqrt", "scan", "sigmoid", "sign", "silu", "sin", "size", "softmax", "softplus", "sparsestmax", "sqrt", "std", "stop", "sum", "tanh", "uniform", "var", "where", "window"];
