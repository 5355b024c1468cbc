"""Two versions of a norm, compared without running them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from metanorm.breaking.change import Change
from metanorm.ir.dump import init_text
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.initializers import initializers
from metanorm.ir.outputs import output_dims
from metanorm.ir.program import Argument, InputDecl, ParamDecl, Program, Switch
from metanorm.ir.scalar import Const, scalar_text
from metanorm.passes.pipeline import optimize


def interface_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes in state dicts, constructors, inputs and outputs."""
    name = new.name
    if old.target != new.target:
        yield Change(name, "norm", f"was for a {old.target}, and is for a {new.target}")
    yield from _state_changes(old, new)
    yield from _constructor_changes(old, new)
    yield from _inputs_changes(old, new)
    yield from _outputs_changes(old, new)
    yield from _entry_changes(old, new)


def _entry_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes in what further methods take and return."""
    before, after = ({e.method: e for e in program.entries} for program in (old, new))
    for method in (method for method in before if method not in after):
        yield Change(new.name, "entries", f"the method `{method}` is gone")
    for method in (method for method in after if method not in before):
        yield Change(new.name, "entries", f"the method `{method}` is new", breaks=False)
    for method in (method for method in before if method in after):
        yield from _inputs_changes(before[method], after[method])
        yield from _outputs_changes(before[method], after[method])


# ---- the state dict


def _state_changes(old: Program, new: Program) -> Iterator[Change]:
    before, after = _state_shapes(old), _state_shapes(new)
    for key in (name for name in before if name not in after):
        yield Change(new.name, "state", f"`{key}` is gone from the state dict")
    for key in (name for name in after if name not in before):
        yield Change(new.name, "state", f"`{key}` is new in the state dict, which older ones lack")
    for key in (name for name in before if name in after):
        if before[key] != after[key]:
            shapes = f"{_shape_text(after[key])} instead of {_shape_text(before[key])}"
            yield Change(new.name, "state", f"`{key}` has the shape {shapes}")
    orders = [[p.name for p in program.params] for program in (old, new)]
    common_orders = [[p for p in order if p in {*orders[0]} & {*orders[1]}] for order in orders]
    if common_orders[0] != common_orders[1]:
        order = f"{_quoted(common_orders[1])} instead of {_quoted(common_orders[0])}"
        text = f"parameters come in the order {order}, by which optimizers keep their state"
        yield Change(new.name, "parameters", text)
    initial_values = {state.name: state.init for state in new.state}
    for state in old.state:
        if state.name in initial_values and state.init != initial_values[state.name]:
            texts = f"{init_text(initial_values[state.name])} instead of {init_text(state.init)}"
            yield Change(new.name, "begins", f"`{state.name}` begins with {texts}", breaks=False)
    yield from _computed_initial_changes(old, new)
    yield from _interval_changes(old, new)


def _computed_initial_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes of initial values that are computed from the weight or from the first batch."""
    before, after = (
        {name: fingerprint(optimize(initial)) for name, initial in initializers(program).items()}
        for program in (old, new)
    )
    common = {state.name for state in old.state} & {state.name for state in new.state}
    for name in dict.fromkeys((*before, *after)):
        if name in common and before.get(name) != after.get(name):
            text = f"`{name}` begins with another computed value"
            yield Change(new.name, "begins", text, breaks=False)


def _interval_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes of the intervals that parameters are kept in."""
    intervals = {param.name: _interval_text(param) for param in new.params}
    for param in old.params:
        before = _interval_text(param)
        after = intervals.get(param.name, before)
        if after != before:
            text = f"`{param.name}` is no longer kept in {before}"
            if after:
                text = f"`{param.name}` is kept in {after}" + f" instead of {before}" * bool(before)
            yield Change(new.name, "parameters", text, breaks=bool(after))


def _interval_text(param: ParamDecl) -> str:
    """The interval that a parameter is kept in; empty without one."""
    if param.low is None or param.high is None:
        return ""
    return f"[{scalar_text(param.low)}, {scalar_text(param.high)}]"


def _state_shapes(program: Program) -> dict[str, tuple[str, ...]]:
    """The shape of each entry of the state dict, in arguments of the constructor and axes."""
    return {
        state.name: tuple(_length_text(d, program) for d in state.dims) for state in program.state
    }


def _length_text(dim: str, program: Program) -> str:
    for argument in program.arguments:
        if argument.type == "size" and dim in argument.axes:
            return argument.name
    (axis,) = (axis for axis in program.axes if axis.name == dim)
    return dim if axis.size is None else scalar_text(axis.size)


def _shape_text(lengths: Sequence[str]) -> str:
    return f"({', '.join(lengths)})"


# ---- the constructor


def _constructor_changes(old: Program, new: Program) -> Iterator[Change]:
    before, after = _default_by_argument(old), _default_by_argument(new)
    for name in (name for name in before if name not in after):
        yield Change(new.name, "constructor", f"the argument `{name}` is gone")
    for name in (name for name in after if name not in before):
        required = after[name] is REQUIRED
        what = "new and required" if required else "new"
        yield Change(new.name, "constructor", f"the argument `{name}` is {what}", breaks=required)
    for name in (name for name in before if name in after):
        if before[name] != after[name]:
            yield _changed_default(new.name, name, before[name], after[name])
    yield from _choice_changes(old, new)
    orders = [_positional_arguments(old), _positional_arguments(new)]
    if orders[1][: len(orders[0])] != orders[0] and {*orders[0]} <= {*orders[1]}:
        order = f"{_quoted(orders[1])} instead of {_quoted(orders[0])}"
        yield Change(new.name, "constructor", f"arguments come in the order {order}")


def _choice_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes of the strings that arguments may be."""
    choices = {a.name: a.choices for a in new.constructor_arguments}
    for argument in old.constructor_arguments:
        before, after = argument.choices, choices.get(argument.name, argument.choices)
        if gone := [choice for choice in before if choice not in after]:
            text = f"`{argument.name}` can no longer be {_quoted(gone)}"
            yield Change(new.name, "constructor", text)
        if added := [choice for choice in after if choice not in before]:
            text = f"`{argument.name}` can be {_quoted(added)}"
            yield Change(new.name, "constructor", text, breaks=False)


REQUIRED = object()


def _default_by_argument(program: Program) -> Mapping[str, object]:
    """The default of each argument; `REQUIRED` for one without."""
    arguments: Sequence[Argument | Switch] = (*program.constructor_arguments, *program.switches)
    return {
        a.name: REQUIRED if isinstance(a, Argument) and a.required else a.default for a in arguments
    }


def _positional_arguments(program: Program) -> list[str]:
    arguments = sorted(program.constructor_arguments, key=lambda a: not a.required)
    switches = [s.name for s in program.switches if not s.keyword_only]
    return [*(a.name for a in arguments), *switches]


def _changed_default(norm: str, name: str, before: object, after: object) -> Change:
    """The change for an argument whose default differs, is new or is gone."""
    if after is REQUIRED:
        return Change(norm, "constructor", f"the argument `{name}` is required")
    if before is REQUIRED:
        text = f"the argument `{name}` may be left out"
        return Change(norm, "constructor", text, breaks=False)
    return Change(norm, "constructor", f"`{name}` is {after} by default instead of {before}")


# ---- calls


def _outputs_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes of what a call returns: names, dimensions and dtypes."""
    before, after = _names(old.outputs), _names(new.outputs)
    if before != after:
        text = f"returns {_quoted(after)} instead of {_quoted(before)}"
        yield Change(new.name, "outputs", text)
        return
    new_names = _new_names(old, new)
    shaped_alike = {old.outputs[0][0]} if old.keeps_shape and new.keeps_shape else set()
    for (name, ref), (_, new_ref) in zip(old.outputs, new.outputs):
        was = [new_names.get(dim, dim) for dim in output_dims(old, name, ref)]
        dims = [*output_dims(new, name, new_ref)]
        if was == dims or name in shaped_alike:
            continue
        text = f"returns `{name}` as [{', '.join(dims)}] instead of [{', '.join(was)}]"
        if sorted(was) == sorted(dims):
            text = f"returns the axes of `{name}` in another order"
        yield Change(new.name, "outputs", text)
    if old.output_dtypes != new.output_dtypes:
        yield Change(new.name, "outputs", "returns other dtypes")


def _new_names(old: Program, new: Program) -> dict[str, str]:
    """The new name of each axis of an input, a parameter or a buffer."""
    declared = {decl.name: decl.dims for decl in new.declarations}
    return {
        before: after
        for decl in old.declarations
        for before, after in zip(decl.dims, declared.get(decl.name, ()))
    }


def _inputs_changes(old: Program, new: Program) -> Iterator[Change]:
    before = {i.name: i for i in old.given_inputs}
    after = {i.name: i for i in new.given_inputs}
    for name in (name for name in before if name not in after):
        yield Change(new.name, "inputs", f"the input `{name}` is gone")
    for name in (name for name in after if name not in before):
        required = after[name].required
        what = "new and required" if required else "new"
        yield Change(new.name, "inputs", f"the input `{name}` is {what}", breaks=required)
    for name in (name for name in before if name in after):
        yield from _input_changes(before[name], after[name], new.name)
        yield from _fixed_length_changes(name, old, new)
    orders = [list(before), list(after)]
    if orders[1][: len(orders[0])] != orders[0] and {*orders[0]} <= {*orders[1]}:
        order = f"{_quoted(orders[1])} instead of {_quoted(orders[0])}"
        yield Change(new.name, "inputs", f"inputs come in the order {order}")


def _input_changes(before: InputDecl, after: InputDecl, norm: str) -> Iterator[Change]:
    if before.written_sort != after.written_sort:
        text = f"the input `{after.name}` is of the sort {after.written_sort}"
        yield Change(norm, "inputs", text)
    if len(before.dims) != len(after.dims):
        counts = f"{len(after.dims)} axes instead of {len(before.dims)}"
        yield Change(norm, "inputs", f"the input `{after.name}` has {counts}")
    if after.required and not before.required:
        yield Change(norm, "inputs", f"the input `{after.name}` is required")
    elif before.required and not after.required:
        text = f"the input `{after.name}` may be left out"
        yield Change(norm, "inputs", text, breaks=False)
    elif before.default != after.default:
        defaults = [_default_text(decl.default) for decl in (after, before)]
        text = f"the input `{after.name}`, left out, is {defaults[0]} instead of {defaults[1]}"
        yield Change(norm, "inputs", text)


def _default_text(default: str | float | None) -> str:
    if default is None:
        return "nothing"
    return f"`{default}`" if isinstance(default, str) else f"{default:g}"


def _fixed_length_changes(name: str, old: Program, new: Program) -> Iterator[Change]:
    """The changes of the lengths that the spec itself gives axes of an input."""
    before, after = (_fixed_lengths(name, program) for program in (old, new))
    for position, (was, length) in enumerate(zip(before, after), 1):
        axis = f"axis {position} of the input `{name}`"
        if length is None and was is not None:
            yield Change(new.name, "inputs", f"{axis} may have other lengths", breaks=False)
        elif was != length:
            instead = f" instead of {was}" if was is not None else ""
            yield Change(new.name, "inputs", f"{axis} has the length {length}{instead}")


def _fixed_lengths(name: str, program: Program) -> list[str | None]:
    """The length of each axis of an input as a number; `None` for one of another length."""
    sizes = (program.index.space[dim].size for dim in program.index.inputs[name].dims)
    return [scalar_text(size) if isinstance(size, Const) else None for size in sizes]


def _names(outputs: Sequence[tuple[str, object]]) -> list[str]:
    return [name for name, _ in outputs]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
