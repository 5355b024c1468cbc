"""Which runtime this is: that of metanorm, or the copy in a package that stands alone.

Several may be in one process. What is registered in torch or loaded from C is each one's own.
"""

from __future__ import annotations

RUNTIME = __name__.rpartition(".")[0]  # `metanorm.runtime`, or `norms._runtime`, say
NAMESPACE = RUNTIME.removesuffix(".runtime").replace(".", "_")  # of operations of torch
