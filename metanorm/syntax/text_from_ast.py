"""The formatter: AST and comments to text, in the one layout of the language.

Keywords of a norm are padded to one width, so that their contents are aligned. Formatting twice
changes nothing, and the text parses to the same AST.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.document import LINE, SOFT, Doc, Group, Indent, join, one_line, render
from metanorm.syntax import ast

WIDTH = 100

# Precedence levels, loosest first. An operand of a lower level needs parentheses.
COMPARE, SUM, PRODUCT, UNARY, POWER, POSTFIX = range(6)


def text_from_ast(file: ast.File) -> str:
    """The formatted text of a file."""
    blocks: list[str] = []
    uses = [line for use in file.uses for line in _with_comments([f'use "{use.path}"'], use.trivia)]
    if uses:
        blocks.append("\n".join(uses[1:] if uses[0] == "" else uses))
    blocks += ["\n".join(norm_lines(norm)) for norm in file.norms]
    blocks += ["\n".join(line for line in file.end.before)] if file.end.before else []
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n" if blocks else ""


def norm_lines(norm: ast.Norm) -> list[str]:
    """The lines of one norm, comments included."""
    hypers = ""
    if _has_comments(norm.hypers):
        noted = _commented_lines(norm.hypers, [_hyper(h) for h in norm.hypers], 4, WIDTH)
        hypers = "\n".join((f"norm {norm.name.name}(", *noted, ")"))
    elif norm.hypers:
        items = join((",", LINE), [_hyper(h) for h in norm.hypers])
        head: Doc = (f"norm {norm.name.name}", Group(("(", Indent((SOFT, items), 4), SOFT, ")")))
        hypers = render(head, WIDTH - 20)
    else:
        hypers = f"norm {norm.name.name}"
    target = f" for {norm.target.name}" if norm.target else ""
    # Examples and a backward pass stand apart: they do not move the contents of the statements.
    computed = (s for s in norm.without_examples.statements if not isinstance(s, ast.Backward))
    keyword_width = max((len(s.kind) for s in computed), default=0)
    body: list[str] = []
    previous: ast.Statement | None = None
    for statement in norm.statements:
        if _continues(previous, statement):
            after = f"  {statement.trivia.after}" if statement.trivia.after else ""
            body[-1] += " " + " ".join(statement_lines(statement, 0)) + after
        else:
            lines = _with_comments(statement_lines(statement, keyword_width), statement.trivia)
            body += [f"  {line}" if line else "" for line in lines]
        previous = statement
    body += [f"  {line}" if line else "" for line in norm.end.before]
    opening = f"{hypers}{target} {{"
    lines = [*opening.split("\n"), *body, "}"] if body else [opening + "}"]
    return _with_comments(lines, norm.trivia)


def _continues(previous: ast.Statement | None, statement: ast.Statement) -> bool:
    """Whether a statement continues the line: a `track` right after its `stat`."""
    has_no_comments = (
        previous is not None and not previous.trivia.after and not statement.trivia.before
    )
    return has_no_comments and isinstance(previous, ast.Stat) and isinstance(statement, ast.Track)


def _with_comments(lines: Sequence[str], trivia: ast.Trivia) -> list[str]:
    after = f"  {trivia.after}" if trivia.after else ""
    return [*trivia.before, *lines[:-1], lines[-1] + after]


def statement_lines(statement: ast.AnyStatement, pad: int) -> list[str]:
    """One statement, with its keyword padded to `pad` columns."""
    lead = statement.kind.ljust(pad) + " "
    if isinstance(statement, ast.Entry):
        return _entry_lines(statement, lead)
    if isinstance(statement, ast.Backward):
        return [f"{statement.kind} {{", *_block_lines(statement), "}"]
    parts = _item_docs(statement)
    if _has_comments([item for item, _ in parts]):
        items, docs = zip(*parts)
        lines = _commented_lines(items, docs, len(lead), WIDTH - 2)
        return [lead + lines[0][len(lead) :], *lines[1:]]
    doc: Doc = (lead, Indent(_statement(statement), len(lead)))
    return [line.rstrip() for line in render(Group(doc), WIDTH - 2).split("\n")]


def _entry_lines(entry: ast.Entry, lead: str) -> list[str]:
    """An entry: its inputs in parentheses, and its statements on lines of their own."""
    docs = [_input_item(item) for item in entry.inputs]
    opening = f"{lead}{entry.name.name}("
    if _has_comments(entry.inputs):
        noted = _commented_lines(entry.inputs, docs, len(lead) + 4, WIDTH - 2)
        head = [opening, *noted, f"{' ' * len(lead)}) {{"]
    else:
        items = Indent((SOFT, join((",", LINE), docs)), len(lead) + 4)
        doc: Doc = Group((opening, items, Indent(SOFT, len(lead)), ") {"))
        head = [line.rstrip() for line in render(doc, WIDTH - 2).split("\n")]
    return [*head, *_block_lines(entry), "}"]


def _block_lines(block: ast.Entry | ast.Backward) -> list[str]:
    """The statements between the braces of a block, each on lines of its own."""
    width = max((len(s.kind) for s in block.statements), default=0)
    body: list[str] = []
    for statement in block.statements:
        body += _with_comments(statement_lines(statement, width), statement.trivia)
    body += block.end.before
    return [f"  {line}" if line else "" for line in body]


def _item_docs(s: ast.AnyStatement) -> list[tuple[ast.Item, Doc]]:
    """The items of a statement and their documents; empty for a statement without items."""
    match s:
        case ast.Input():
            return [(i, _input_item(i)) for i in s.items]
        case ast.Param():
            return [(i, _param_item(i)) for i in s.items]
        case ast.Buffer():
            return [(i, _buffer_item(i)) for i in s.items]
        case ast.Output():
            return [(i, _output_item(i)) for i in s.items]
        case _:
            return []


def _has_comments(items: Sequence[ast.Item]) -> bool:
    """Whether an item has comments: then each item gets a line of its own."""
    return any(item.trivia.before or item.trivia.after for item in items)


def _commented_lines(
    items: Sequence[ast.Item], docs: Sequence[Doc], indent: int, width: int
) -> list[str]:
    """Items on lines of their own, with their comments, which may exceed the width."""
    all_lines: list[str] = []
    for item, doc in zip(items, docs):
        comma = "," if item is not items[-1] else ""
        text = render(Group((" " * indent, Indent((doc, comma), indent))), width)
        lines = [line.rstrip() for line in text.split("\n")]
        before = [f"{' ' * indent}{line}" if line else "" for line in item.trivia.before]
        after = f"  {item.trivia.after}" if item.trivia.after else ""
        all_lines += [*before, *lines[:-1], lines[-1] + after]
    return all_lines


def _statement(s: ast.AnyStatement) -> Doc:
    match s:
        case ast.AxisSplit():
            return f"{s.axis.name} = ({', '.join(_dim(d) for d in s.parts)})"
        case ast.AxisCut():
            return (s.axis.name, " = ", join(" + ", [_piece(piece) for piece in s.pieces]))
        case ast.Reduce():
            return _pool(s.pool)
        case ast.Shift():
            return (_expr(s.value), *((" = ", _expr(s.initial)) if s.initial else ()))
        case ast.Scale():
            return _expr(s.value)
        case ast.Stat():
            return (s.name.name, " over ", _pool(s.pool))
        case ast.Mix():
            argument: Doc = ("(", _expr(s.argument), ")") if s.argument else ""
            return (", ".join(n.name for n in s.stats), " by ", s.by.name, argument)
        case ast.Track():
            return (_expr(s.tracked.momentum), *_tracking_options(s.tracked))
        case ast.AffineClause():
            return _affine(s.affine)
        case ast.Let():
            return (s.name.name, _dims(s.dims), " = ", _expr(s.value))
        case ast.Update():
            return (s.name.name, " = ", _expr(s.value), f" in {s.mode.name}" if s.mode else "")
        case ast.Repeat():
            body = [(a.name.name, " = ", _expr(a.value)) for a in s.body]
            return (_expr(s.count), " {", Group((Indent((LINE, join(LINE, body)), 2), LINE)), "}")
        case ast.Example():
            mode = f" in {s.mode.name}" if s.mode else ""
            within = f" within {s.within.text}" if s.within else ""
            given = join((",", LINE), [_example_item(i) for i in s.given])
            expected = join((",", LINE), [_example_item(i) for i in s.expected])
            return (Group(given), mode, LINE, "gives ", Group(expected), within)
        case ast.Input() | ast.Param() | ast.Buffer() | ast.Output():
            return Group(join((",", LINE), [doc for _, doc in _item_docs(s)]))
        case ast.Gradient():
            return (s.name.name, " = ", _expr(s.value))
        case ast.Entry():
            return join(LINE, _entry_lines(s, ""))
        case ast.Backward():
            return join(LINE, ["{", *_block_lines(s), "}"])


def _hyper(h: ast.Hyper) -> Doc:
    axes = f"[{', '.join(a.name for a in h.axes)}]" if h.axes else ""
    sort = f": {h.type.name}{axes}" if h.type else ""
    if h.choices:
        sort = f": {' | '.join(map(_text, h.choices))}"
    default: Doc = (" = ", _expr(h.default)) if h.default else ""
    return (h.name.name, sort, default)


def _text(text: ast.Text) -> str:
    return f'"{text.value}"'


def _input_item(i: ast.InputItem) -> Doc:
    sort = f": {i.sort.name}" if i.sort else ""
    table = f" of {_dim(i.table)}" if i.table else ""
    default: Doc = (" = ", _expr(i.default)) if i.default else ""
    dims = _dims(i.dims) or ("[]" if i.table else "")  # an index is written with brackets
    return (i.name.name, sort, dims, table, default)


def _param_item(i: ast.ParamItem) -> Doc:
    bounds: Doc = (" in [", _expr(i.low), ", ", _expr(i.high), "]") if i.low and i.high else ""
    switch: Doc = (LINE, f"if {i.switch.name}{' off' if i.off else ''}") if i.switch else ""
    return (i.name.name, _dims(i.dims), *_initial(i), bounds, switch)


def _buffer_item(i: ast.BufferItem) -> Doc:
    return (i.name.name, _dims(i.dims), *_initial(i))


def _initial(i: ast.ParamItem | ast.BufferItem) -> tuple[Doc, ...]:
    first: tuple[Doc, ...] = (LINE, "first ", _expr(i.first)) if i.first else ()
    return (" = init " if i.from_weight else " = ", _expr(i.value), *first)


def _output_item(i: ast.OutputItem) -> Doc:
    return (f"{i.name.name} = " if i.name else "", _expr(i.value), *_dtype(i.dtype))


def _example_item(i: ast.ExampleItem) -> Doc:
    return (f"{i.name.name} = " if i.name else "", _constant(i.value))


def _constant(constant: ast.Constant) -> Doc:
    if not isinstance(constant, ast.ListOf):
        return _expr(constant)
    items = join((",", LINE), [_constant(item) for item in constant.items])
    return Group(("[", Indent(items, 1), "]"))


def _dtype(dtype: ast.Dtype | None) -> tuple[str, ...]:
    return () if dtype is None else (f" {'like' if dtype.like else 'as'} {dtype.name.name}",)


# ---- axes and pools


def _axis(axis: ast.AxisRef) -> str:
    return f"*{axis.name}" if axis.variadic else axis.name


def _dim(dim: ast.Dim) -> str:
    if dim.size is None:
        return _axis(dim.axis)
    size = dim.size.name if isinstance(dim.size, ast.Identifier) else dim.size.text
    return f"{_axis(dim.axis)} = {size}"


def _piece(piece: ast.Piece) -> Doc:
    if piece.size is None:
        return _axis(piece.axis)
    return ("(", _axis(piece.axis), " = ", _expr(piece.size), ")")


def _dims(dims: Sequence[ast.Dim]) -> str:
    return f"[{', '.join(_dim(d) for d in dims)}]" if dims else ""


def _pool(pool: ast.Pool) -> Doc:
    items: list[Doc] = [_pool_axis(axis) for axis in pool.axes]
    if pool.where:
        items[-1] = (items[-1], LINE, "where ", _expr(pool.where, SUM))
    if pool.weight:
        items[-1] = (items[-1], LINE, "weight ", _expr(pool.weight, SUM))
    if pool.tracked:
        momentum = _expr(pool.tracked.momentum, SUM)
        items[-1] = (items[-1], LINE, "track ", momentum, *_tracking_options(pool.tracked))
    items += [_keyword(k) for k in pool.keywords]
    return Group(join((",", LINE), items))


def _tracking_options(tracked: ast.Tracked) -> tuple[Doc, ...]:
    initial: tuple[Doc, ...] = (" from ", _expr(tracked.initial, SUM)) if tracked.initial else ()
    into = f" into {tracked.into.name}" if tracked.into else ""
    return (*initial, into, " off" if tracked.off else "")


def _pool_axis(axis: ast.PoolAxis) -> Doc:
    return (_axis(axis.axis), ": ", _matrix(axis.matrix)) if axis.matrix else _axis(axis.axis)


def _matrix(matrix: ast.Matrix) -> Doc:
    docs = [_keyword(a) if isinstance(a, ast.Keyword) else _expr(a) for a in matrix.arguments]
    arguments: Doc = ("(", join(", ", docs), ")") if matrix.parenthesised else ""
    extra = f" with {matrix.extra.name}" if matrix.extra else ""
    return (matrix.name, arguments, extra, f" within {matrix.within.name}" if matrix.within else "")


def _affine(affine: ast.Affine) -> Doc:
    terms = []
    for term in affine.terms:
        axes = ", ".join(_axis(a) for a in term.axes)
        terms.append(f"{term.only.name}[{axes}]" if term.only else axes)
    return ", ".join(terms) + (" off" if affine.off else "")


# ---- expressions


def expr_text(expr: ast.Expr) -> str:
    """An expression on one line."""
    return one_line(_expr(expr))


def _expr(expr: ast.Expr, context: int = COMPARE) -> Doc:
    level, doc = _leveled_doc(expr)
    return doc if level >= context else ("(", Indent(doc, 1), ")")


def _leveled_doc(expr: ast.Expr) -> tuple[int, Doc]:
    """The precedence level of an expression, and its document."""
    match expr:
        case ast.Number():
            return POSTFIX, expr.text
        case ast.Text():
            return POSTFIX, _text(expr)
        case ast.Name():
            return POSTFIX, expr.name
        case ast.Spread():
            return POSTFIX, f"*{expr.name}"
        case ast.AxisList():
            return POSTFIX, f"({', '.join(map(_axis, expr.axes))})"
        case ast.Missing():
            return POSTFIX, "<missing>"
        case ast.Negative():
            return UNARY, ("-", _expr(expr.operand, UNARY))
        case ast.Compare():
            sides = _expr(expr.left, SUM), f" {expr.operator} ", _expr(expr.right, SUM)
            return COMPARE, sides
        case ast.Chain():
            return _chain(expr)
        case ast.Power():
            return POWER, (_expr(expr.base, POSTFIX), "^", _expr(expr.exponent, UNARY))
        case ast.FieldOf():
            return POSTFIX, (_expr(expr.value, POSTFIX), ".", expr.field.name)
        case ast.Index():
            inner = join(", ", [_subscript(s) for s in expr.subscripts])
            return POSTFIX, (_expr(expr.value, POSTFIX), "[", inner, "]")
        case ast.Call():
            return POSTFIX, _call(expr)


def _chain(chain: ast.Chain) -> tuple[int, Doc]:
    level = SUM if chain.operators[0] in "+-" else PRODUCT
    parts: list[Doc] = [_expr(chain.operands[0], level + 1)]
    for operator, operand in zip(chain.operators, chain.operands[1:]):
        parts += [LINE, f"{operator} ", _expr(operand, level + 1)]
    return level, Group(tuple(parts))


def _subscript(subscript: ast.Rename | ast.At | ast.Expr) -> Doc:
    if isinstance(subscript, ast.At):
        return (_axis(subscript.axis), " = ", _expr(subscript.position))
    if isinstance(subscript, ast.Rename):
        return f"{_axis(subscript.old)} -> {_axis(subscript.new)}"
    return _expr(subscript)


def _keyword(keyword: ast.Keyword) -> Doc:
    return (keyword.name, ": " if keyword.labelled else " = ", _expr(keyword.value))


def _call(call: ast.Call) -> Doc:
    docs = [_expr(a) for a in call.arguments] + [_keyword(k) for k in call.keywords]
    parts: list[Doc] = [join((",", LINE), docs)] if docs else []
    if call.over:
        parts.append(("over ", _pool(call.over)))
    if call.per:
        parts.append(("per ", _affine(call.per)))
    if call.dtype and parts:
        parts[-1] = (parts[-1], *_dtype(call.dtype))
    lead = f"{call.function.name}("
    return Group((lead, Indent(join(LINE, parts), 2), ")"))
