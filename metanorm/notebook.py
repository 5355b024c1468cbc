"""`%load_ext metanorm`: the cell magic `%%norm`."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from metanorm.api import SpecError, loads

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

USAGE = "usage: %%norm [-q]; -q displays nothing"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magic. IPython calls this at `%load_ext metanorm`."""
    shell.register_magic_function(_magic(shell), "cell", "norm")


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magic. IPython calls this at `%unload_ext metanorm`."""
    shell.magics_manager.magics["cell"].pop("norm", None)


def _magic(shell: InteractiveShell) -> Any:
    from IPython.core.error import UsageError

    def norm(line: str, cell: str) -> ModuleType | None:
        """Compile the cell as a spec, and put its classes and functions at the notebook's disposal.

        %%norm [-q]

        The module is displayed, unless there is a -q. Errors are the report of `metanorm check`.
        """
        if line.strip() not in ("", "-q"):
            raise UsageError(USAGE)
        try:
            module = loads(cell)
        except SpecError as error:
            raise UsageError(str(error).strip("\n")) from None
        shell.user_ns.update({name: getattr(module, name) for name in module.__all__})
        return None if line.strip() else module

    return norm
