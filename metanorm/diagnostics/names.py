"""MN02xx: a name that is unknown, taken, unused, or not fit to be one."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.guess import UNSAFE, nearest_name_fix, replacement_fix
from metanorm.diagnostics.model import Fix, Label, Problem, Warn
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, list_available, listing
from metanorm.source import Span

# Names of values in other languages, and what to write instead.
FOREIGN_NAMES = {
    "eye": "as a value, an identity matrix is a comparison of positions: "
    "`where(position(C) == position(C)[C -> D], 1, 0)`; parameters and buffers begin with `eye`",
    "pi": "write the number: `3.141592653589793`",
}


@problem("MN0201")
@dataclass(frozen=True)
class UnknownName(Problem):
    """A name that nothing has introduced.

    ### What it means

    Values are introduced by hyperparameters, `input`, `param`, `buffer`, `let` and `stat`,
    above the place where they are used. The clauses introduce `mean`, `var` and `normalized`.

    ### Example

    ```norm
    norm Scaled {
      input  x[N, C]
      param  gain[C] = 1
      output gian * x
    }
    ```

    ### Fix

    Correct the name, or introduce the value above this place.

    ```norm
    norm Scaled {
      input  x[N, C]
      param  gain[C] = 1
      output gain * x
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    later: Span | None = None
    is_axis: bool = False
    usage: str = ""
    is_of_call: bool = False  # whether it is a value of the norm, in an entry

    def message(self) -> str:
        return f"unknown name `{self.name}`"

    def label(self) -> str:
        return "used before it is introduced" if self.later else "nothing of this name is in scope"

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.later, text="introduced only here"),) if self.later else ()

    def helps(self) -> tuple[str, ...]:
        if self.later:
            return ("move the statement that introduces it up",)
        if self.is_of_call:
            return ("an entry is a call of its own: return the value, and take it as an input",)
        if self.is_axis:
            return (f"the length of axis `{self.name}` is written `size({self.name})`",)
        if self.name in FOREIGN_NAMES:
            return (FOREIGN_NAMES[self.name],)
        if self.usage:
            return (f"as a function it is written `{self.usage}`",)
        guess = did_you_mean(self.name, self.candidates)
        names = [name for name in self.candidates if name not in ("true", "false")]
        if guess or not 0 < len(names) <= 12:
            return guess or ("introduce it above this place",)
        return list_available(names)

    def fixes(self) -> tuple[Fix, ...]:
        if self.later or self.usage or self.is_of_call or self.name in FOREIGN_NAMES:
            return ()
        if self.is_axis:
            return (
                replacement_fix(self.span, self.name, f"size({self.name})", UNSAFE, "its length"),
            )
        return nearest_name_fix(self.span, self.name, self.candidates)


@problem("MN0203")
@dataclass(frozen=True)
class DuplicateName(Problem):
    """A name is introduced twice.

    ### What it means

    Within a norm every hyperparameter, input, parameter, buffer and value has a name of its own;
    within a package every norm has.

    ### Example

    ```norm
    norm Twice {
      input  x[N, C]
      let    y = 2 * x
      let    y = 3 * x
      output y
    }
    ```

    ### Fix

    Rename one. What a clause introduces (`mean`, `var`, `normalized`, `weight`, `bias`,
    `running_mean`, ...) counts too.

    ```norm
    norm Apart {
      input  x[N, C]
      let    y = 2 * x
      let    z = 3 * y
      output z
    }
    ```
    """

    span: Span
    name: str
    first: Span | None = None
    what: str = ""

    def message(self) -> str:
        return f"`{self.name}` is introduced twice"

    def label(self) -> str:
        return f"here as {self.what}" if self.what else ""

    def secondary(self) -> tuple[Label, ...]:
        return (Label(span=self.first, text="first introduced here"),) if self.first else ()

    def helps(self) -> tuple[str, ...]:
        return ("rename one of them",)


@problem("MN0204")
@dataclass(frozen=True)
class ReservedName(Problem):
    """A name that the generated module cannot have.

    ### What it means

    Names of a spec become names in Python. Words of Python and attributes of `torch.nn.Module`
    (`training`, `forward`, `parameters`, ...) would break the module.

    ### Example

    ```norm
    norm Weighted(lambda = 0.5) {
      input  x[N, C]
      output lambda * x
    }
    ```

    ### Fix

    Choose another name, for example with a `_` behind it.

    ```norm
    norm Weighted(strength = 0.5) {
      input  x[N, C]
      output strength * x
    }
    ```
    """

    span: Span
    name: str
    why: str

    def message(self) -> str:
        return f"`{self.name}` cannot be a name here: it is {self.why}"

    def helps(self) -> tuple[str, ...]:
        return (f"choose another name, for example `{self.name.strip('_')}_`",)


@problem("MN0205")
@dataclass(frozen=True)
class UnknownSort(Problem):
    """A hyperparameter or input of a sort that does not exist.

    ### What it means

    Hyperparameters are `int`, `float`, `bool` or `matrix[A, A]`; inputs are tensors, or `index`,
    `mask`, `edges` or `matrix`.

    ### Example

    ```norm
    norm Grouped(groups: integer) {
      input  x[N, C]
      reduce C: blocks(groups)
    }
    ```

    ### Fix

    Use one of these sorts.

    ```norm
    norm Grouped(groups: int) {
      input  x[N, C]
      reduce C: blocks(groups)
    }
    ```
    """

    span: Span
    name: str
    what: str
    candidates: tuple[str, ...]

    def message(self) -> str:
        return f"unknown sort of {self.what} `{self.name}`"

    def helps(self) -> tuple[str, ...]:
        guess = did_you_mean(self.name, self.candidates)
        if guess:
            return guess
        tensor_hint = "; a tensor has no sort: `x[N, C]`" if self.what == "input" else ""
        return (f"{self.what}s are {listing(self.candidates, 'or')}{tensor_hint}",)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.name, self.candidates)


@problem("MN0206")
@dataclass(frozen=True)
class Unused(Warn):
    """Something is introduced and never used.

    ### What it means

    The output does not depend on it. A parameter that is not used never gets a gradient, which
    distributed training reports as an error.

    ### Example

    ```norm
    norm Forgetful {
      input  x[N, C]
      param  gain[C] = 1
      reduce C
    }
    ```

    ### Fix

    Use it or remove it.

    ```norm
    norm Thoughtful {
      input  x[N, C]
      param  gain[C] = 1
      reduce C
      output gain * normalized
    }
    ```
    """

    span: Span
    name: str
    what: str

    def message(self) -> str:
        return f"unused {self.what} `{self.name}`"

    def helps(self) -> tuple[str, ...]:
        return ("use it, or remove it",)


@problem("MN0207")
@dataclass(frozen=True)
class UnknownField(Problem):
    """A field that the value does not have.

    ### What it means

    `moments(...)` and `stat` give a value with the fields `mean` and `var`, a scan one with the
    field `before`, and a call of a norm with several outputs one with these. Nothing else has
    fields.

    ### Example

    ```norm
    norm Centred {
      input  x[N, C]
      let    s = moments(x over C)
      output x - s.average
    }
    ```

    ### Fix

    Write `.mean` or `.var`.

    ```norm
    norm Centred {
      input  x[N, C]
      let    s = moments(x over C)
      output x - s.mean
    }
    ```
    """

    span: Span
    field: str
    fields: tuple[str, ...]
    what: str = "moments"

    def message(self) -> str:
        if not self.fields:
            return f"this value has no field `{self.field}`"
        verb = "have" if self.what == "moments" else "has"
        return f"{self.what} {verb} no field `{self.field}`"

    def helps(self) -> tuple[str, ...]:
        if self.field == "before":
            return ("`before` is a field of a scan itself: `let m = scan(...)`, then `m.before`",)
        if self.field in ("T", "mT"):
            return ("a transpose calls axes by other names: `x[C -> D, D -> C]`",)
        if not self.fields:
            return (
                "fields are those of `moments(...)` and of `stat`, `mean` and `var`, `before` of a "
                "`scan`, and the outputs of a norm that is called and has several",
            )
        return did_you_mean(self.field, self.fields) or (f"the fields are {listing(self.fields)}",)

    def fixes(self) -> tuple[Fix, ...]:
        return nearest_name_fix(self.span, self.field, self.fields) if self.fields else ()


@problem("MN0208")
@dataclass(frozen=True)
class NameTooLong(Problem):
    """A name is longer than any generated line should be.

    ### What it means

    Names of a spec stand in the generated module, whose lines have 88 columns.

    ### Example

    ```norm
    norm Long {
      input  x[N, C]
      let    a_very_long_name_that_no_reader_will_ever_want_to_see_again = 2 * x
      output a_very_long_name_that_no_reader_will_ever_want_to_see_again
    }
    ```

    ### Fix

    Shorten it.

    ```norm
    norm Short {
      input  x[N, C]
      let    doubled = 2 * x
      output doubled
    }
    ```
    """

    span: Span
    name: str
    limit: int

    def message(self) -> str:
        return f"the name `{self.name[:16]}...` has more than {self.limit} characters"

    def helps(self) -> tuple[str, ...]:
        return ("shorten it",)
