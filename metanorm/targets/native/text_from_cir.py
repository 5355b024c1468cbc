"""Print the C IR as text, with lines of at most `WIDTH` columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from metanorm.targets.native.cir import (
    Alternatives,
    Apply,
    Assign,
    Block,
    CompoundLiteral,
    Conditional,
    Declare,
    Define,
    Definition,
    Double,
    Element,
    Enum,
    Expansion,
    Expr,
    ExprStmt,
    FieldsInLayouts,
    For,
    Function,
    Guarded,
    If,
    Include,
    Infix,
    InLayouts,
    Macro,
    Member,
    Name,
    Number,
    Pieces,
    Prefix,
    Return,
    ReturnVoid,
    Stmt,
    Struct,
    Table,
)
from metanorm.targets.native.conditions import condition_text

WIDTH = 100
LEVELS = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
CHOICE, PREFIX, ATOM = 0, 7, 9
ONE_LINERS = (Define, Enum, Macro, Expansion)  # without an empty line between them


def text_from_cir(definitions: Sequence[Definition]) -> str:
    """The text of a file."""
    text = ""
    for number, d in enumerate(definitions):
        before = definitions[number - 1] if number else None
        close = isinstance(d, ONE_LINERS) and isinstance(before, ONE_LINERS)
        text += ("" if close or not number else "\n") + "\n".join(_definition(d)) + "\n"
    return text


def _definition(d: Definition) -> list[str]:
    match d:
        case Include(file):
            return [f'#include "{file}"']
        case Define(name, value):
            return [f"#define {name} {value}".rstrip()]
        case Macro():
            return _macro(d)
        case Expansion(name, arguments):
            return [f"{name}({', '.join(arguments)})"]
        case Enum(names, numbered):
            named = [*names, *(f"{name} = {number}" for name, number in numbered)]
            return _folded(f"enum {{ {', '.join(named)} }};", "    ")
        case Struct(doc, name, fields, _):
            lines = [line for field in fields for line in _fields(field)]
            return [*_comment(doc), "typedef struct {", *lines, f"}} {name};"]
        case Table(type_, name, rows):
            line = f"static const {type_} {name} = {{{', '.join(rows)}}};"
            if len(line) <= WIDTH:
                return [line]
            return [f"static const {type_} {name} = {{", *(f"    {row}," for row in rows), "};"]
        case Guarded(names, inner_definitions):
            body = text_from_cir(inner_definitions).rstrip().split("\n")
            first, *others = names
            end = f"#endif /* {first}{' and others' if others else ''} */"
            head = _condition(0, names) if others else [f"#ifdef {first}"]
            return [*head, "", *body, "", end]
        case Alternatives(cases):
            parts = []
            gap = [] if all(isinstance(d, ONE_LINERS) for _, ds in cases for d in ds) else [""]
            for number, (names, inner_definitions) in enumerate(cases):
                inner = text_from_cir(inner_definitions).rstrip().split("\n")
                parts += [*_condition(number, names), *gap, *inner, *gap]
            return [*parts, "#endif"]
        case Function():
            return _function(d)


def _fields(fields: tuple[str, tuple[str, ...]] | FieldsInLayouts) -> list[str]:
    """The lines of the fields of one type, or of those of some layouts."""
    if not isinstance(fields, FieldsInLayouts):
        type_, names = fields
        return _folded(f"    {type_} {', '.join(names)};", "        ")
    lines: list[str] = []
    for number, (builds, inner) in enumerate(fields.cases):
        lines += [*_condition(number, builds), *(line for f in inner for line in _fields(f))]
    return [*lines, "#endif"]


def _condition(number: int, names: Sequence[str]) -> list[str]:
    """The directive above the case with this number."""
    return _continued(f"#{'elif' if number else 'if'} {condition_text(names)}")


def _continued(line: str) -> list[str]:
    """The lines of a directive."""
    *folded, last = _folded(line, "    ", WIDTH - len(" \\"))
    return [*(f"{part} \\" for part in folded), last]


def _macro(m: Macro) -> list[str]:
    parameters = f"({', '.join(m.parameters)})" if m.parameters else ""
    comment = f" /* {m.comment} */" if m.comment else ""
    line = f"#define {m.name}{parameters} {', '.join(map(expression, m.items))}"
    *folded, last = _folded(line, "    ", WIDTH - len(" \\"))
    lines = [*(f"{part} \\" for part in folded), last]
    return (
        [*lines[:-1], last + comment]
        if len(last + comment) <= WIDTH
        else [comment.lstrip(), *lines]
    )


def _function(f: Function) -> list[str]:
    parameters = ", ".join(
        f"{type_}{'' if type_.endswith('*') else ' '}{name}" for type_, name in f.parameters
    )
    linkage = "" if f.exported else "static inline " if f.is_inline else "static "
    head = f"{linkage}{f.result} {f.name}({parameters}) {{"
    if f.exported:
        head = f"EXPORTED {head}"
    return [*_comment(f.doc), *_folded(head, "    "), *_body(f.body, 1), "}"]


def _comment(text: str) -> list[str]:
    if not text:
        return []
    lines = textwrap.wrap(text, WIDTH - 6)
    return [f"{'/*' if i == 0 else ' *'} {line}" for i, line in enumerate(lines[:-1])] + [
        f"{'/*' if len(lines) == 1 else ' *'} {lines[-1]} */"
    ]


def _folded(line: str, indent: str, width: int = WIDTH) -> list[str]:
    """A line, broken at the best spaces if it is too long."""
    margin = " " * (len(line) - len(line.lstrip()))
    lines: list[str] = []
    while len(line) > width and (break_scores := _break_scores(line, width)):
        column = max(break_scores, key=lambda column: break_scores[column])
        lines.append(line[:column])
        line = margin + indent + line[column + 1 :]
    return [*lines, line]


def _break_scores(line: str, width: int) -> dict[int, int]:
    """The columns of spaces at which a line can be broken, each with a score.

    Good breaks are far to the right, within few brackets, and after a comma or before an operator.
    """
    start = len(line) - len(line.lstrip())
    scores: dict[int, int] = {}
    depth = 0
    for column, sign in enumerate(line[: width + 1]):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == " " and column > start:
            word = line[:column].rsplit(" ", 1)[-1]
            operator = word in LEVELS or word in ("?", ":")
            ended = word.endswith((",", ";", "="))
            scores[column] = column - 30 * depth + 10 * ended - 40 * operator
    return scores


def _body(statements: Iterable[Stmt], depth: int) -> list[str]:
    lines: list[str] = []
    before: Stmt | None = None
    for statement in statements:
        joined = _joined(lines[-1], before, statement) if before is not None else None
        if joined is not None:
            lines[-1] = joined
        else:
            lines += _statement(statement, depth)
        before = statement
    return lines


def _joined(line: str, before: Stmt, statement: Stmt) -> str | None:
    """A line of declarations with one more of the same type, where both are short."""
    if not (isinstance(before, Declare) and isinstance(statement, Declare)):
        return None
    if before.type != statement.type or not (_is_short(before) and _is_short(statement)):
        return None
    text = f"{line[:-1]}, {_declarator(statement)};"
    return text if len(text) <= WIDTH else None


def _is_short(d: Declare) -> bool:
    """Whether a declaration computes nothing."""
    return isinstance(d.value, (Name, Number, Member, type(None)))


def _declarator(d: Declare) -> str:
    """What a declaration says behind the type."""
    pointer = "*" if d.type.endswith("*") else ""
    brackets = "" if d.length is None else f"[{expression(d.length)}]"
    initializer = "" if d.value is None else f" = {expression(d.value)}"
    return f"{pointer}{d.name}{brackets}{initializer}"


def _statement(s: Stmt, depth: int) -> list[str]:
    pad = "    " * depth
    match s:
        case Declare(type_):
            return _folded(f"{pad}{type_.removesuffix('*').rstrip()} {_declarator(s)};", "    ")
        case Assign(target, operator, value):
            return _folded(f"{pad}{expression(target)} {operator} {expression(value)};", "    ")
        case ExprStmt(value):
            return _folded(f"{pad}{expression(value)};", "    ")
        case Return(value):
            return _folded(f"{pad}return {expression(value)};", "    ")
        case If(condition, body):
            head, inner = f"{pad}if ({expression(condition)})", _body(body, depth + 1)
            if len(inner) == 1 and len(short := f"{head} {inner[0].lstrip()}") <= WIDTH:
                return [short]
            return [f"{head} {{", *inner, f"{pad}}}"]
        case ReturnVoid():
            return [f"{pad}return;"]
        case InLayouts(cases):
            parts = []
            for number, (names, body) in enumerate(cases):
                parts += [*_condition(number, names), *_body(body, depth)]
            return [*parts, "#endif"]
        case Block(body):
            return [f"{pad}{{", *_body(body, depth + 1), f"{pad}}}"]
        case For() | Pieces():
            return _for(s, depth)


def _for(loop: For | Pieces, depth: int) -> list[str]:
    """A loop, on one line with the loops directly inside it as far as they fit."""
    pad = "    " * depth
    pragmas, head = _pragmas(loop), f"{pad}{_head(loop)}"
    while (inner := _only_loop(loop)) and len(f"{head} {_head(inner)}") <= WIDTH - len(" {"):
        loop, head = inner, f"{head} {_head(inner)}"
    heads = _folded(head, "        ")
    body = _body(loop.body, depth + 1)
    if len(loop.body) > 1 or isinstance(loop.body[0], Declare):
        return [*pragmas, *heads[:-1], f"{heads[-1]} {{", *body, f"{pad}}}"]
    short = f"{heads[-1]} {body[0].lstrip()}"
    if len(body) == 1 and len(short) <= WIDTH and not body[0].startswith("#"):
        return [*pragmas, *heads[:-1], short]
    return [*pragmas, *heads, *body]


def _only_loop(loop: For | Pieces) -> For | Pieces | None:
    """The loop directly inside a loop, if it needs no pragma on a line of its own."""
    inner = loop.body[0]
    if len(loop.body) > 1 or not isinstance(inner, (For, Pieces)) or _pragmas(inner):
        return None
    return inner


def _pragmas(loop: For | Pieces) -> list[str]:
    """The lines above a loop."""
    if isinstance(loop, Pieces):
        return []
    if loop.work is not None:
        nest = f" collapse({loop.nest})" if loop.nest > 1 else ""
        enough = f"if ({expression(loop.work)} > SERIAL)"
        return [f"#pragma omp parallel for{nest} num_threads(THREADS) {enough}"]
    reductions = _reductions(loop)
    return [f"#pragma omp simd {' '.join(reductions)}"] if len(reductions) > 1 else []


def _reductions(loop: For) -> list[str]:
    """The variables that a loop reduces, a clause for each operator."""
    names: dict[str, list[str]] = {}
    for name, operator in loop.reduced:
        names.setdefault(operator, []).append(name)
    return [f"reduction({o} : {', '.join(variables)})" for o, variables in names.items()]


def _head(loop: For | Pieces) -> str:
    """The head of a loop, by the macros of `metanorm.h`."""
    if isinstance(loop, Pieces):
        return _head_of_pieces(loop)
    reductions = _reductions(loop) if loop.simd else []
    simd = "SIMD " if loop.simd and not reductions else ""
    if len(reductions) == 1:
        simd = f"{reductions[0].replace('reduction', 'REDUCING', 1)} "
    return f"{simd}{_range(loop)}"


def _head_of_pieces(loop: Pieces) -> str:
    """The head of a loop over pieces of rows, or over tiles of them."""
    bounds = [*filter(None, [loop.rows]), (loop.low, loop.high)]
    axes = [axis for low, high in bounds if (axis := _ranged_axis(low, high)) is not None]
    whole = "EACH_PIECE" if loop.rows is None else "EACH_TILE"
    part = "PIECES" if loop.rows is None else "TILES"
    macro, arguments = (whole, axes) if len(axes) == len(bounds) else (part, list(sum(bounds, ())))
    return f"{macro}({', '.join(map(expression, arguments))})"


def _ranged_axis(low: Expr, high: Expr) -> Expr | None:
    """The axis whose range of a worker has these bounds."""
    match low, high:
        case Element(Member(Name("r"), "lo"), axis), Element(Member(Name("r"), "hi"), same):
            return axis if axis == same else None
    return None


def _range(loop: For) -> str:
    """What a loop goes over."""
    macro, arguments = "STEPS", [loop.low, loop.high, loop.step]
    if loop.step == Number(1):
        macro, arguments = "FOR", [loop.low, loop.high]
        if (axis := _ranged_axis(loop.low, loop.high)) is not None:
            macro, arguments = "EACH", [axis]
        match loop.low, loop.high:
            case Apply("low", (_, axis)), Apply("high", (_, _, size)):
                macro, arguments = "EACH_OF", [axis, size]
    return f"{macro}({', '.join([loop.variable, *map(expression, arguments)])})"


# ---- expressions


def expression(e: Expr) -> str:
    """The text of an expression, with as many parentheses as it needs."""
    return _expr(e)[0]


def _expr(e: Expr) -> tuple[str, int]:
    match e:
        case Name(text):
            return text, ATOM
        case Member(object_, name, operator):
            return f"{_within(object_, ATOM)}{operator}{name}", ATOM
        case Double(value):
            return repr(value), ATOM if value >= 0 else PREFIX
        case Number(value):
            return number(value), ATOM if value >= 0 else PREFIX
        case Apply(function, arguments):
            return f"{function}({', '.join(expression(a) for a in arguments)})", ATOM
        case CompoundLiteral(type_, values):
            head = f"({type_})" if type_ else ""
            return f"{head}{{{', '.join(expression(v) for v in values)}}}", ATOM
        case Element(array, index):
            return f"{_within(array, ATOM)}[{expression(index)}]", ATOM
        case Prefix(operator, operand):
            return f"{operator}{_within(operand, PREFIX + 1)}", PREFIX
        case Infix(operator, left, right):
            level = LEVELS[operator]
            # Sums and products associate to the left; a right operand gets parentheses.
            return f"{_within(left, level)} {operator} {_within(right, level + 1)}", level
        case Conditional(condition, yes, no):
            parts = [_within(part, 1) for part in (condition, yes)]
            return f"{parts[0]} ? {parts[1]} : {_within(no, CHOICE)}", CHOICE


def _within(e: Expr, level: int) -> str:
    text, text_level = _expr(e)
    return text if text_level >= level else f"({text})"


def number(value: float) -> str:
    """The text of a constant. A fraction is cast, so that float arithmetic does not use double."""
    if value != value:
        return "NAN"
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    return str(int(value)) if value == int(value) and abs(value) < 2**31 else f"(real){value!r}"
