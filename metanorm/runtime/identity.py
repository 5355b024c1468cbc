"""The name of this runtime: that of metanorm, or of a copy in a standalone package.

One process may load several runtimes. Each registers its own operations and loads its own library.
"""

from __future__ import annotations

RUNTIME = __name__.rpartition(".")[0]  # `metanorm.runtime`, or `norms._runtime`, say
NAMESPACE = RUNTIME.removesuffix(".runtime").replace(".", "_")  # of operations of torch
