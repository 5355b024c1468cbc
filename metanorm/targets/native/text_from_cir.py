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
    Expr,
    ExprStmt,
    For,
    Function,
    Guarded,
    If,
    Include,
    Infix,
    Member,
    Name,
    Number,
    Prefix,
    Return,
    ReturnVoid,
    Stmt,
    Struct,
    Table,
    Unused,
)

WIDTH = 88
LEVELS = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
CHOICE, PREFIX, ATOM = 0, 7, 9


def text_from_cir(definitions: Sequence[Definition]) -> str:
    """The text of a file."""
    text = ""
    for number, d in enumerate(definitions):
        close = number and isinstance(d, Define) and isinstance(definitions[number - 1], Define)
        text += ("" if close or not number else "\n") + "\n".join(_definition(d)) + "\n"
    return text


def _definition(d: Definition) -> list[str]:
    match d:
        case Include(file):
            return [f'#include "{file}"']
        case Define(name, value):
            return [f"#define {name} {value}".rstrip()]
        case Enum(names, numbered):
            named = [*names, *(f"{name} = {number}" for name, number in numbered)]
            return _folded(f"enum {{ {', '.join(named)} }};", "    ")
        case Struct(doc, name, fields):
            inner = [f"    {type_} {', '.join(names)};" for type_, names in fields]
            lines = [line for field in inner for line in _folded(field, "        ")]
            return [*_comment(doc), "typedef struct {", *lines, f"}} {name};"]
        case Table(type_, name, rows):
            return [f"static const {type_} {name} = {{", *(f"    {row}," for row in rows), "};"]
        case Guarded(name, inner_definitions):
            body = text_from_cir(inner_definitions).rstrip().split("\n")
            return [f"#ifdef {name}", "", *body, "", f"#endif /* {name} */"]
        case Alternatives(cases):
            parts = []
            for number, (names, inner_definitions) in enumerate(cases):
                condition = " || ".join(f"defined {name}" for name in names)
                head = f"#{'elif' if number else 'if'} {condition}"
                parts += [head, "", *text_from_cir(inner_definitions).rstrip().split("\n"), ""]
            return [*parts, "#endif"]
        case Function():
            return _function(d)


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


def _folded(line: str, indent: str) -> list[str]:
    """A line, broken at the best spaces if it is too long."""
    margin = " " * (len(line) - len(line.lstrip()))
    lines: list[str] = []
    while len(line) > WIDTH and (break_scores := _break_scores(line)):
        column = max(break_scores, key=lambda column: break_scores[column])
        lines.append(line[:column])
        line = margin + indent + line[column + 1 :]
    return [*lines, line]


def _break_scores(line: str) -> dict[int, int]:
    """The columns of spaces at which a line can be broken, each with a score.

    Good breaks are far to the right, within few brackets, and after a comma or before an operator.
    """
    start = len(line) - len(line.lstrip())
    scores: dict[int, int] = {}
    depth = 0
    for column, sign in enumerate(line[: WIDTH + 1]):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == " " and column > start:
            word = line[:column].rsplit(" ", 1)[-1]
            operator = word in LEVELS or word in ("?", ":")
            ended = word.endswith((",", ";", "="))
            scores[column] = column - 30 * depth + 10 * ended - 40 * operator
    return scores


def _body(statements: Iterable[Stmt], depth: int) -> list[str]:
    return [line for statement in statements for line in _statement(statement, depth)]


def _statement(s: Stmt, depth: int) -> list[str]:
    pad = "    " * depth
    match s:
        case Declare(type_, name, value, length):
            gap = "" if type_.endswith("*") else " "
            brackets = "" if length is None else f"[{expression(length)}]"
            initializer = "" if value is None else f" = {expression(value)}"
            return _folded(f"{pad}{type_}{gap}{name}{brackets}{initializer};", "    ")
        case Assign(target, operator, value):
            return _folded(f"{pad}{expression(target)} {operator} {expression(value)};", "    ")
        case ExprStmt(value):
            return _folded(f"{pad}{expression(value)};", "    ")
        case Unused(names):
            return [f"{pad}{', '.join(f'(void){name}' for name in names)};"]
        case Return(value):
            return _folded(f"{pad}return {expression(value)};", "    ")
        case If(condition, body):
            return [f"{pad}if ({expression(condition)}) {{", *_body(body, depth + 1), f"{pad}}}"]
        case ReturnVoid():
            return [f"{pad}return;"]
        case Block(body):
            return [f"{pad}{{", *_body(body, depth + 1), f"{pad}}}"]
        case For():
            return _for(s, depth)


def _for(loop: For, depth: int) -> list[str]:
    pad, i = "    " * depth, loop.variable
    step = f"{i}++" if loop.step == Number(1) else f"{i} += {expression(loop.step)}"
    head = f"{pad}for (int64_t {i} = {expression(loop.low)}; {i} < {expression(loop.high)}; {step})"
    names: dict[str, list[str]] = {}
    for name, operator in loop.reduced:
        names.setdefault(operator, []).append(name)
    reduced = "".join(f" reduction({o} : {', '.join(variables)})" for o, variables in names.items())
    pragma = [f"#pragma omp simd{reduced}"] if loop.simd else []
    if loop.work is not None:
        nest = f" collapse({loop.nest})" if loop.nest > 1 else ""
        enough = f"if ({expression(loop.work)} > SERIAL)"
        pragma.append(f"#pragma omp parallel for{nest} num_threads(THREADS) {enough}")
    inner = _body(loop.body, depth + 1)
    if len(loop.body) == 1 and not isinstance(loop.body[0], Declare):
        return [*pragma, *_folded(head, "        "), *inner]
    return [*pragma, *_folded(head + " {", "        "), *inner, f"{pad}}}"]


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
