"""Print the Python IR as text, as `ruff format` and Black format it, at 88 columns.

Only this module knows about layout. A line that is too long is broken inside its last brackets, or
at its operators inside parentheses.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.document import LINE, SOFT, Doc, Group, IfBroken, Indent, join, one_line, render
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Blank,
    Call,
    Class,
    Comment,
    Dict,
    Expr,
    ExprStmt,
    For,
    Format,
    Function,
    If,
    IfElse,
    Import,
    List,
    Literal,
    Module,
    Name,
    Parameter,
    Raise,
    Return,
    Slice,
    Starred,
    Stmt,
    Subscript,
    Tuple,
    Unary,
)

WIDTH = 88

# Binding strength of operators, loosest first.
ORDER = ("if", "or", "and", "not", "<", "&", "+", "*", "-x", "**", ".")
STRENGTH = {operator: strength for strength, operator in enumerate(ORDER)}
SAME = {"-": "+", "/": "*", "//": "*", "%": "*"} | dict.fromkeys(
    ("<=", ">", ">=", "==", "!=", "is", "is not", "in", "not in"), "<"
)


def text_from_pyir(module: Module) -> str:
    """The text of a module, ending in a line end."""
    lines = list(module.header)
    if module.doc:
        lines += ["", *_docstring(module.doc, 0)] if lines else _docstring(module.doc, 0)
    lines += _block(module.body, 0, top=True, first=not lines)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def flat(expr: Expr) -> str:
    """An expression on one line."""
    return one_line(_doc(expr))


# ---- statements


def _block(body: Sequence[Stmt], depth: int, top: bool = False, first: bool = True) -> list[str]:
    lines: list[str] = []
    previous: Stmt | None = None
    for statement in body:
        gap = _gap(previous, statement, top, first and previous is None)
        if lines and not lines[-1]:
            gap = max(0, gap - 1)
        lines += [""] * gap + _statement(statement, depth)
        previous = statement
    return lines


def _gap(previous: Stmt | None, statement: Stmt, top: bool, opens: bool) -> int:
    """Blank lines before a statement: two around definitions of a module, one inside a class."""
    if previous is None:
        return 0 if opens or not top else 2 if isinstance(statement, (Class, Function)) else 1
    is_definition = isinstance(statement, (Class, Function)) or isinstance(
        previous, (Class, Function)
    )
    if isinstance(previous, Comment) and isinstance(statement, (Class, Function)):
        return 0
    if is_definition:
        return 2 if top else 1
    if isinstance(previous, Import) and not isinstance(statement, (Import, Blank)):
        return 1
    return 0


def _statement(s: Stmt, depth: int) -> list[str]:
    pad = "    " * depth
    match s:
        case Assign():
            return _assign(s, depth)
        case ExprStmt(value, comment):
            return _line(_breakable(value), comment, depth)
        case Return(value, comment):
            return _line(("return ", _breakable(value)), comment, depth)
        case Raise(value):
            return _line(("raise ", _breakable(value)), "", depth)
        case If(condition, body, else_body):
            lines = _line(("if ", _breakable(condition), ":"), "", depth)
            lines += _block(body, depth + 1)
            if len(else_body) == 1 and isinstance(else_body[0], If):
                nested = _statement(else_body[0], depth)
                return [*lines, f"{pad}el{nested[0].strip()}", *nested[1:]]
            return [*lines, f"{pad}else:", *_block(else_body, depth + 1)] if else_body else lines
        case For(target, values, body):
            lead = f"for {flat(target)} in "
            lines = _line((lead, _breakable(values), ":"), "", depth)
            return [*lines, *_block(body, depth + 1)]
        case Comment(text):
            return [f"{pad}# {line}" for line in text.split("\n")]
        case Blank():
            return [""]
        case Function():
            return _function(s, depth)
        case Class(name, base, body, doc):
            lines = [f"{pad}class {name}({base}):", *_docstring(doc, depth + 1)]
            return [*lines, *([""] if doc and body else []), *_block(body, depth + 1)]
        case Import(module, names):
            if not names:
                return [f"{pad}import {module}"]
            line = f"{pad}from {module} import {', '.join(names)}"
            if len(line) <= WIDTH:
                return [line]
            return [f"{pad}from {module} import (", *(f"{pad}    {n}," for n in names), f"{pad})"]


def _line(doc: Doc, comment: str, depth: int) -> list[str]:
    """The lines of a statement. Its comment goes above it if both do not fit on a line."""
    width = WIDTH - 4 * depth
    lines = render(doc, width).split("\n")
    pad = "    " * depth
    if comment and len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= width:
        lines[0] += f"  # {comment}"
    elif comment:
        lines.insert(0, f"# {comment}")
    return [pad + line if line else "" for line in lines]


def _assign(s: Assign, depth: int) -> list[str]:
    target = ", ".join(flat(t) for t in s.targets)
    lead = f"{target}: {s.annotation}" if s.annotation else target
    if s.value is None:
        return _line(lead, s.comment, depth)
    lines = _line((lead, " = ", _breakable(s.value)), s.comment, depth)
    first = lines[1] if s.comment and len(lines) > 1 and "#" in lines[0] else lines[0]
    if len(s.targets) == 1 or len(first) <= WIDTH:
        return lines
    targets = [(SOFT, flat(target), ",") for target in s.targets]
    several: Doc = Group(("(", Indent(tuple(targets), 4), SOFT, ")"))
    return _line((several, " = ", _breakable(s.value)), s.comment, depth)


def _function(f: Function, depth: int) -> list[str]:
    pad = "    " * depth
    parameters = [_parameter(p) for p in f.parameters]
    last = IfBroken(",") if f.parameters and f.parameters[-1].name != "*" else ""
    inner: Doc = Group((join((",", LINE), parameters), last))
    brackets: Doc = Group(("(", Indent((SOFT, inner), 4), SOFT, ")")) if parameters else "()"
    head = render((f"def {f.name}", brackets, f" -> {f.returns}:"), WIDTH - 4 * depth)
    decorators = (d if isinstance(d, str) else _doc(d) for d in f.decorators)
    above = (render(("@", decorator), WIDTH - 4 * depth) for decorator in decorators)
    lines = [pad + line for text in (*above, head) for line in text.split("\n")]
    return [*lines, *_docstring(f.doc, depth + 1), *_block(f.body, depth + 1)]


def _parameter(p: Parameter) -> Doc:
    if not p.annotation:
        return p.name if p.default is None else (p.name, "=", _doc(p.default))
    default: Doc = (" = ", _doc(p.default)) if p.default is not None else ""
    return (f"{p.name}: {p.annotation}", default)


def _docstring(lines: Sequence[str], depth: int) -> list[str]:
    """The lines of a docstring. Its text is escaped, so that nothing in it ends the string."""
    if not lines:
        return []
    pad = "    " * depth
    clean = [line.replace("\\", "\\\\").replace('"', "'").rstrip() for line in lines]
    if len(clean) == 1:
        return [f'{pad}"""{clean[0]}"""']
    body = [pad + line if line else "" for line in clean[1:]]
    return [f'{pad}"""{clean[0]}', *body, f'{pad}"""']


# ---- expressions


def _breakable(expr: Expr) -> Doc:
    """An expression that fills a statement.

    A single operator before brackets breaks inside them; other operators break inside
    parentheses that are added.
    """
    if isinstance(expr, Binary) and expr.operator != "**":
        left, right = expr.operands[0], expr.operands[-1]
        level = _level(expr.operator)
        bracketed = isinstance(right, Call) and (right.arguments or right.keywords)
        if not is_chain(expr):
            if bracketed:
                return (_doc(left, level), f" {expr.operator} ", _doc(right, level + 1))
            if _strength(right)[0] <= level:
                inner = Group(("(", Indent((SOFT, _strength(right)[1]), 4), SOFT, ")"))
                return (_doc(left, level), f" {expr.operator} ", inner)
        return _parenthesised(_operators(expr))
    if isinstance(expr, Format):
        lines = [_format(line) for line in _format_lines(expr.parts)]
        long = len(lines) == 1 and len(lines[0]) > WIDTH - 12
        return lines[0] if long else _parenthesised(_doc(expr))
    if isinstance(expr, IfElse):
        parts = (
            _doc(expr.value, 1),
            LINE,
            "if ",
            _doc(expr.condition, 1),
            LINE,
            "else ",
            _doc(expr.other),
        )
        return _parenthesised(parts)
    return _doc(expr)


def _parenthesised(doc: Doc) -> Doc:
    return Group((IfBroken("("), Indent((SOFT, Group(doc)), 4), SOFT, IfBroken(")")))


def is_chain(expr: Binary) -> bool:
    """Whether an expression has several operators of its loosest level."""
    return len(expr.operands) > 2 or _same_level(expr.operands[0], _level(expr.operator))


def _same_level(expr: Expr, level: int) -> bool:
    return isinstance(expr, Binary) and expr.operator != "**" and _level(expr.operator) == level


def _doc(expr: Expr, context: int = 0) -> Doc:
    strength, doc = _strength(expr)
    return ("(", doc, ")") if strength < context else doc


def _level(operator: str) -> int:
    return STRENGTH[SAME.get(operator, operator)]


def _strength(expr: Expr) -> tuple[int, Doc]:
    top = STRENGTH["."]
    match expr:
        case Name(text):
            return top, text
        case Literal(value):
            return (
                STRENGTH["-x"] if isinstance(value, (int, float)) and value < 0 else top
            ), literal(value)
        case Attribute(value, name):
            return top, (_doc(value, top), ".", name)
        case Call(function, arguments, keywords):
            return top, (_doc(function, top), _arguments(arguments, keywords))
        case Subscript(value, items):
            within = (join(", ", [_doc(i) for i in items]), "," if _lone_star(items) else "")
            return top, (_doc(value, top), Group(("[", Indent((SOFT, within), 4), SOFT, "]")))
        case Slice(start, stop):
            return top, _slice(start, stop)
        case Tuple(items, True):
            return top, join(", ", [_doc(i) for i in items])
        case Tuple(items):
            comma: Doc = "," if len(items) == 1 else IfBroken(",")
            inner = (join((",", LINE), [_doc(i) for i in items]), comma)
            return top, Group(("(", Indent((SOFT, inner), 4), SOFT, ")")) if items else "()"
        case List(items):
            inner = (join((",", LINE), [_doc(i) for i in items]), IfBroken(","))
            return top, Group(("[", Indent((SOFT, inner), 4), SOFT, "]")) if items else "[]"
        case Dict(items):
            pairs = [(_doc(key), ": ", _doc(value)) for key, value in items]
            inner = (join((",", LINE), pairs), IfBroken(","))
            return top, Group(("{", Indent((SOFT, inner), 4), SOFT, "}")) if items else "{}"
        case Starred(value):
            return STRENGTH["or"], ("*", _doc(value, STRENGTH["+"]))
        case Unary("not", operand):
            return STRENGTH["not"], ("not ", _doc(operand, STRENGTH["not"]))
        case Unary(operator, operand):
            return STRENGTH["-x"], (operator, _doc(operand, STRENGTH["-x"]))
        case Binary("**", (base, exponent)):
            return STRENGTH["**"], _power(base, exponent)
        case Binary():
            return _level(expr.operator), Group(_operators(expr))
        case IfElse(condition, value, other):
            return 0, (_doc(value, 1), " if ", _doc(condition, 1), " else ", _doc(other))
        case Format(parts):
            lines = [_format(line) for line in _format_lines(parts)]
            return top, lines[0] if len(lines) == 1 else join(LINE, lines)


def _slice(start: Expr | None, stop: Expr | None) -> Doc:
    """`a:b`, or `f(a) : b + 1` with spaces around the colon if a bound is more than a name."""
    bounds = [bound for bound in (start, stop) if bound is not None]
    pad = "" if all(_plain_bound(bound) for bound in bounds) else " "
    before = (_doc(start), pad) if start is not None else ""
    after = (pad, _doc(stop)) if stop is not None else ""
    return (before, ":", after)


def _plain_bound(bound: Expr) -> bool:
    inner = bound.operand if isinstance(bound, Unary) else bound
    return isinstance(inner, (Name, Literal))


def _lone_star(items: Sequence[Expr]) -> bool:
    return len(items) == 1 and isinstance(items[0], Starred)


def _power(base: Expr, exponent: Expr) -> Doc:
    """`x**2` if both operands are plain, `f(x) ** 2` if one is not."""
    is_plain = all(isinstance(e, (Name, Literal)) for e in (base, exponent))
    above = STRENGTH["**"] + 1
    return (_doc(base, above), "**" if is_plain else " ** ", _doc(exponent, STRENGTH["-x"]))


def _operators(expr: Binary) -> Doc:
    """The operands of one precedence level as one document, so that they break together."""
    level = _level(expr.operator)
    parts: list[Doc] = []
    for position, operand in enumerate(expr.operands):
        chained = position == 0 and level != STRENGTH["<"] and _same_level(operand, level)
        if chained and isinstance(operand, Binary):
            inner = _operators(operand)
        else:
            inner = _doc(operand, level + (position > 0 or level == STRENGTH["<"]))
        parts += [LINE, f"{expr.operator} ", inner] if position else [inner]
    return tuple(parts)


def _arguments(arguments: Sequence[Expr], keywords: Sequence[tuple[str, Expr]]) -> Doc:
    argument_docs = [_doc(a) for a in arguments] + [
        (f"{key}=", _doc(value)) for key, value in keywords
    ]
    if not argument_docs:
        return "()"
    inner = Group((join((",", LINE), argument_docs), IfBroken(",")))
    return Group(("(", Indent((SOFT, inner), 4), SOFT, ")"))


def literal(value: float | int | str | bool | None) -> str:
    """A Python literal in the formatter's normal form."""
    if isinstance(value, str):
        body = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in body) + '"'
    if isinstance(value, float):
        return f"{value!r}".replace("e-0", "e-").replace("e+0", "e+").replace("e+", "e")
    return repr(value)


def _format_lines(parts: Sequence[str | Expr]) -> list[list[str | Expr]]:
    """The parts of an f-string, split after commas into lines that fit."""
    room = WIDTH - 12  # in parentheses, in a method
    items: list[list[str | Expr]] = [[]]
    for part in parts:
        if isinstance(part, str) and part.startswith(", "):
            items[-1].append(", ")
            items.append([part[2:]] if part[2:] else [])
        else:
            items[-1].append(part)
    lines: list[list[str | Expr]] = []
    for item in items:
        if lines and len(_format((*lines[-1], *item))) <= room:
            lines[-1] += item
        else:
            lines.append(list(item))
    return lines


def _format(parts: Sequence[str | Expr]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += literal(part)[1:-1].replace("{", "{{").replace("}", "}}")
        else:
            text += "{" + flat(part).replace('"', "'") + "}"
    return f'f"{text}"'
