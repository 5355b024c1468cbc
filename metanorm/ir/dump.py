"""A program as text, for `inspect` and for tests. Stable: no ids, no addresses."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import Aggregation, Ones, grouping_text
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Dtype,
    Exchange,
    Expand,
    Eye,
    FromSums,
    Init,
    Input,
    Inside,
    Let,
    Link,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Rename,
    Repeat,
    Swept,
    ToSum,
    Type,
)
from metanorm.ir.program import BufferDecl, InputDecl, ParamDecl, Program
from metanorm.ir.scalar import scalar_text


def program_text(program: Program) -> str:
    """The whole program, and behind it the backward pass that its norm states."""
    text = _own_text(program)
    if program.backward is None:
        return text
    arriving, saved = program.backward.arriving, program.backward.saved
    notes = [f"  gradients of the outputs: {', '.join(arriving)}"]
    notes += [f"  {name} is {buffer} before the call" for buffer, name in saved]
    head, *lines = _own_text(program.backward.program).split("\n")
    return "\n".join([text.rstrip("\n"), "", head, *notes, *lines])


def _own_text(program: Program) -> str:
    lines = [f"program {program.name} for {program.target}"]
    if program.divided:
        lines.append(f"  divided {', '.join(program.divided)}")
    lines += [f"  axis {_axis_text(a.name, program)}" for a in program.axes]
    for i in program.inputs:
        table = f" of {i.table}" if i.table else ""
        default = f" = {i.default}" if i.default is not None else ""
        drawn = f" = {draw_text(i)} in train" if i.drawn is not None else ""
        dims = ", ".join(i.dims)
        lines.append(f"  input {i.name}: {i.written_sort}[{dims}]{table}{default}{drawn}")
    for decl in program.state:
        kind = "param" if isinstance(decl, ParamDecl) else "buffer"
        initializer = decl.from_weight
        value = f"init {initializer[-1].name}" if initializer else init_text(decl.init)
        lines.append(f"  {kind} {decl.name}[{', '.join(decl.dims)}] = {value}{_switch_text(decl)}")
        lines += body_lines(initializer, "    ")
        if decl.first:
            lines += [f"    first {decl.first[-1].name}", *body_lines(decl.first, "    ")]
    lines += body_lines(program.body, "  ")
    for u in program.updates:
        momentum = f" by {scalar_text(u.momentum)}" if u.momentum is not None else ""
        when = f" in {u.when}" if u.when != "train" else ""
        condition = f" if any of {u.elements}" if u.elements else ""
        lines.append(f"  update {u.buffer} <- {u.value}{momentum}{when}{condition}")
    dtypes = {name: f" {dtype_text(dtype)}" for name, dtype in program.output_dtypes}
    outputs = ", ".join(
        (name if name == ref else f"{name} = {ref}") + dtypes.get(name, "")
        for name, ref in program.outputs
    )
    lines.append(f"  output {outputs}")
    return "\n".join(lines) + "\n"


def body_lines(body: Sequence[Let], indent: str = "") -> list[str]:
    """One line for each binding, with the body of a `repeat` below it."""
    lines = []
    for let in body:
        lines.append(f"{indent}{let.name} : {type_text(let.type)} = {op_text(let.op)}")
        if isinstance(let.op, Repeat):
            lines += body_lines(let.op.body, indent + "  ")
    return lines


def type_text(type_: Type) -> str:
    """`[N, C]`, `bool[N]`."""
    return f"{'' if type_.kind == 'real' else type_.kind}[{', '.join(type_.axes)}]"


def init_text(init: Init) -> str:
    """An initial value: `0.5`, `normal(0, 0.02)`."""
    if isinstance(init, Eye):
        return "eye"
    if not isinstance(init, Draw):
        return scalar_text(init)
    return f"{init.distribution}({', '.join(scalar_text(a) for a in init.arguments)})"


def draw_text(decl: InputDecl) -> str:
    """What an input is drawn from in training: `normal(0, 0.1) per N, C`, `... per call`."""
    assert decl.drawn is not None
    return f"{init_text(decl.drawn)} per {', '.join(decl.dims) or 'call'}"


def _switch_text(decl: ParamDecl | BufferDecl) -> str:
    """` if affine, bias, else 1`: the switches of a parameter, and what it counts as without it."""
    if not isinstance(decl, ParamDecl) or not decl.switches:
        return ""
    return f" if {' and '.join(decl.switches)}, else {decl.absent:g}"


def _axis_text(name: str, program: Program) -> str:
    axis = program.index.space[name]
    star = "*" if axis.variadic else ""
    size = f" = {scalar_text(axis.size)}" if axis.size is not None else ""
    parts = f" = ({', '.join(axis.parts)})" if axis.parts else ""
    piece = ""
    if axis.piece_of is not None:
        whole, start = axis.piece_of
        piece = f", of {whole} from {scalar_text(start)}"
    return f"{star}{name}{size}{parts}{piece}"


def over_text(over: Aggregation) -> str:
    """`N, C: blocks(8)`."""
    return ", ".join(a if isinstance(m, Ones) else f"{a}: {grouping_text(m)}" for a, m in over)


def _pool_text(op: Pool | Count | Near) -> str:
    where = f" where {op.where}" if op.where else ""
    weight = f" weight {op.weight}" if op.weight else ""
    return f"over {over_text(op.over)}{where}{weight}"


def dtype_text(dtype: Dtype) -> str:
    """`like residual`, `as float32`."""
    return f"{'like' if dtype.like else 'as'} {dtype.name}"


def operation_name(op: Op) -> str:
    """The function of a map, such as `softmax`; the kind of node for any other operation."""
    return getattr(op, "function", type(op).__name__.lower())


def scan_words(op: Recurrence) -> str:
    """What a scan is called: its direction, and whether it gives the states before each step."""
    return f"scan{' in reverse' if op.reverse else ''}{' before' if op.before else ''}"


def _among_processes_text(op: Exchange | Near | FromSums | ToSum | Swept) -> str:
    match op:
        case Exchange(value, axes, "sum"):
            return f"exchange({value} over {', '.join(axes)})"
        case Exchange(value, axes, operation, ties):
            return f"exchange {operation}({value} over {', '.join(axes)} ties {ties})"
        case Near(value):
            return f"near({value} {_pool_text(op)})"
        case FromSums(statistic, sums, near):
            about = f" about {near}" if near else ""
            return f"{statistic} from {', '.join(sums)}{about}"
        case ToSum(statistic, parts, near):
            about = f" about {near}" if near else ""
            return f"{statistic} of {', '.join(parts)}{about}"
        case Swept(sweep, output, values):
            return f"{output} of sweep {sweep}({', '.join(values)})"


def op_text(op: Op) -> str:
    """An operation on one line."""
    match op:
        case Number(value):
            return scalar_text(value)
        case Input(name):
            return f"input {name}"
        case Param(name):
            return f"param {name}"
        case Buffer(name):
            return f"buffer {name}"
        case Map(function, arguments):
            return f"{function}({', '.join(arguments)})"
        case Pool():
            about = f" about {op.about}" if op.about else ""
            ddof = f" ddof {op.ddof}" if op.ddof else ""
            share = f" share {scalar_text(op.share)}" if op.share is not None else ""
            return f"{op.statistic}({op.value}{about} {_pool_text(op)}{ddof}{share})"
        case Count():
            return f"count({_pool_text(op)})"
        case Exchange() | Near() | FromSums() | ToSum() | Swept():
            return _among_processes_text(op)
        case AxisMap(function, value, axis, argument, adjoint):
            radius = f", {scalar_text(argument)}" if argument is not None else ""
            arriving = f", adjoint {adjoint}" if adjoint is not None else ""
            return f"{function}({value} along {axis}{radius}{arriving})"
        case Recurrence(value, decay, start, axis):
            return f"{scan_words(op)}({value} along {axis}, decay {decay}, start {start})"
        case Lookup(table, axis, index):
            return f"{table}[{axis}: {index}]"
        case Piece(value, piece):
            return f"{value}[{piece}]"
        case Inside(piece):
            return f"inside({piece})"
        case Concat((value,), (piece,), axis):
            return f"concat({value} of {piece} over {axis})"
        case Concat(values, _, axis):
            return f"concat({', '.join(values)} over {axis})"
        case Rename(value, old, new):
            return f"{value}[{old} -> {new}]"
        case Position(axis):
            return f"position({axis})"
        case Link(edges, target, source, loop):
            return f"links({edges}{' with self' if loop else ''} from {source} to {target})"
        case Detach(value):
            return f"stop({value})"
        case Cast(value, to):
            return f"cast({value} {dtype_text(to)})"
        case Mode(train, evaluated, buffer):
            buffer_text = f" if {buffer}" if buffer else ""
            return f"mode(train: {train}, eval: {evaluated}{buffer_text})"
        case Expand(value, axes):
            return f"expand({value} to {', '.join(axes)})"
        case Draw(axes=axes):
            return f"{init_text(op)} per {', '.join(axes)}"
        case Repeat():
            start = ", ".join(f"{i} = {v}" for i, v in zip(op.inside, op.initial))
            times = scalar_text(op.count)
            return f"repeat {times} from {start} to {', '.join(op.results)} [{op.position}]"
