"""MN08xx: files, packages and targets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from metanorm.diagnostics.guess import SAFE, UNSAFE, nearest_name_fix, replacement_fix
from metanorm.diagnostics.model import Fix, Label, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, shortened
from metanorm.source import Span


def path_in_use(span: Span, path: str) -> Span | None:
    """Where the path stands in `use "path"`, whose last part it is; `None` outside of a `use`."""
    end = span.end - 1
    return Span(span.source, end - len(path), end) if span.end > span.start else None


@problem("MN0802")
@dataclass(frozen=True)
class UnreadableFile(Problem):
    """A file that is no spec.

    ### What it means

    A spec is a text file in UTF-8 of at most 256 KiB. This one cannot be opened, is a folder,
    is larger, or holds bytes that are not UTF-8. (The example shows a file that `use` names and
    that is not there.)

    ### Example

    ```norm
    use "missing.norm"

    norm Plain {
      input  x[N, C]
      reduce C
    }
    ```

    ### Fix

    Check the path and the permissions; save the file as UTF-8.

    ```norm
    use "batch_norm.norm"

    norm Doubled {
      input  x[N, C]
      output 2 * BatchNorm(x)
    }
    ```
    """

    span: Span
    path: str
    reason: str
    candidates: tuple[str, ...] = ()
    hint: str = "a spec is a text file in UTF-8 of at most 256 KiB"

    def message(self) -> str:
        return f"cannot read `{shortened(self.path, 200)}`: {self.reason}"

    def helps(self) -> tuple[str, ...]:
        return did_you_mean(self.path, self.candidates) or (self.hint,)

    def fixes(self) -> tuple[Fix, ...]:
        path_span = path_in_use(self.span, self.path)
        return () if path_span is None else nearest_name_fix(path_span, self.path, self.candidates)


@problem("MN0803")
@dataclass(frozen=True)
class NoNorm(Problem):
    """A file without a norm.

    ### What it means

    The file is empty, or holds only comments or `use` lines.

    ### Example

    ```norm
    # To be written.
    ```

    ### Fix

    Write a norm: `metanorm new NAME` makes one to begin with.

    ```norm
    norm Written {
      input  x[N, C]
      reduce C
    }
    ```
    """

    span: Span

    def message(self) -> str:
        return "there is no norm in this file"

    def helps(self) -> tuple[str, ...]:
        return ("`metanorm new NAME` writes one to begin with",)


@problem("MN0804")
@dataclass(frozen=True)
class BadModuleName(Problem):
    """A spec file whose name cannot be that of a Python module.

    ### What it means

    `metanorm compile` writes one module for each spec file, of the same name. A `-` becomes
    `_`; other characters, letters beyond ASCII, a digit in front, or a word of Python cannot be
    part of a module name. Files whose names differ in case alone are one file on the disks of
    macOS and Windows, where `con` and `aux` are devices and no files. (In the example, a norm has
    the name of another one that the package already holds.)

    ### Example

    ```norm
    norm Same {
      input  x[N, C]
      reduce C
    }

    norm Same {
      input  x[N, C]
      reduce N  # norm: allow MN0702 -- an example
    }
    ```

    ### Fix

    Rename the file, or the norm.

    ```norm
    norm One {
      input  x[N, C]
      reduce C
    }

    norm Other {
      input  x[N, C]
      reduce N  # norm: allow MN0702 -- an example
    }
    ```
    """

    span: Span
    name: str
    reason: str
    first: Span | None = None

    def message(self) -> str:
        return f"`{self.name}` {self.reason}"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.first, text="the other one"),) if self.first else ()

    def helps(self) -> tuple[str, ...]:
        return ("rename one of them",) if self.first else ("rename the file",)


@problem("MN0805")
@dataclass(frozen=True)
class BadUse(Problem):
    """A `use` that names no spec file.

    ### What it means

    `use` takes the path of a `.norm` file, relative to the file it stands in, with `/` between
    folders. Where there is no such file, the library that ships with metanorm is searched.

    ### Example

    ```norm
    use "/etc/passwd"

    norm Plain {
      input  x[N, C]
      reduce C
    }
    ```

    ### Fix

    Write a relative path that ends in `.norm`.

    ```norm
    use "batch_norm.norm"

    norm Doubled {
      input  x[N, C]
      output 2 * BatchNorm(x)
    }
    ```
    """

    span: Span
    path: str

    def message(self) -> str:
        return f"`{shortened(self.path)}` is not the relative path of a `.norm` file"

    def helps(self) -> tuple[str, ...]:
        if "\\" in self.path:
            return ("folders are separated by `/`",)
        if self.path.startswith("/"):
            return ("write it as seen from this file, for example `../specs/batch_norm.norm`",)
        if self.path.isprintable() and not self.path.endswith(".norm") and "/" not in self.path:
            return (f"did you mean `{shortened(self.path)}.norm`?",)
        return ("write the name of a file that ends in `.norm`",)

    def fixes(self) -> tuple[Fix, ...]:
        path_span = path_in_use(self.span, self.path)
        if path_span is None or not self.path.isprintable() or self.path.startswith("/"):
            return ()
        path, applicability = re.sub(r"\\+", "/", self.path), SAFE
        if not path.endswith(".norm"):
            path, applicability = f"{path}.norm", UNSAFE
        return (replacement_fix(path_span, self.path, path, applicability),)


@problem("MN0806")
@dataclass(frozen=True)
class NotForHub(Problem):
    """A norm that cannot be a layer of the kernels hub.

    ### What it means

    `metanorm compile --hub` prints layers for the `kernels` package of Hugging Face. Such a layer
    has no state, no constructor and no method but `forward`, which computes with what the layer
    that it takes the place of has: its parameters, buffers and attributes. A norm that needs more
    cannot be one: further methods, a first batch to begin from, matrices that a constructor makes.
    Norms for weights and for gradients take the place of no layer. Without `--hub` all of them
    compile.

    ### Example

    ```norm
    norm Centred {
      input  x[N, C]
      param  bias[C] = 0
      output x - bias
      entry  restore(y[N, C]) {
        output y + bias
      }
    }
    ```

    ### Fix

    Leave out what is more than `forward`, or write a norm of its own for the hub.

    ```norm
    norm Centred {
      input  x[N, C]
      param  bias[C] = 0
      output x - bias
    }
    ```
    """

    for_hub = True
    span: Span
    norm: str
    reasons: tuple[str, ...]

    def message(self) -> str:
        return f"`{self.norm}` cannot be a layer of the kernels hub"

    def notes(self) -> tuple[str, ...]:
        return self.reasons

    def helps(self) -> tuple[str, ...]:
        return ("such a layer is a `forward` without state: compile the norm without `--hub`",)
