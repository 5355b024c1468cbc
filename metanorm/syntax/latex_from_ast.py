r"""The equations of a norm as mathematics: AST to LaTeX that KaTeX and MathJax read.

The norm must not have clauses. A statistic has its pool below it, as a sum has: by `\mathop`, since
GitHub does not allow `\operatorname`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields

from metanorm.syntax import ast
from metanorm.syntax.text_from_ast import COMPARE, POSTFIX, POWER, PRODUCT, SUM, UNARY

GREEK = {
    name: f"\\{name}"
    for name in (
        *("alpha", "beta", "gamma", "delta", "eta", "theta", "kappa", "lambda", "mu"),
        *("nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
    )
} | {"eps": "\\varepsilon"}

RELATIONS = {"<": "<", "<=": "\\leq", "==": "=", "!=": "\\neq", ">=": "\\geq", ">": ">"}

# Functions with a LaTeX command. The names of others are set upright.
NAMED_FUNCTIONS = {name: f"\\{name}" for name in ("exp", "log", "sin", "cos", "tanh", "max", "min")}
UPDATE_NOTES = {"eval": "in evaluation", "always": "in each call", "train": "in training"}
NORM_ORDERS = {"l1": "1", "l2": "2"}

LeveledText = tuple[int, str]  # a precedence level of `text_from_ast`, and LaTeX


def latex_from_ast(norm: ast.Norm) -> str:
    """The equations of a norm, one per line, aligned at their signs."""
    lines = [line for statement in norm.statements for line in _lines(statement)]
    body = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n"


def _lines(statement: ast.AnyStatement) -> Iterator[str]:
    match statement:
        case ast.Let(name=name, value=value):
            yield f"{_name(name.name)} &= {_latex(value)}{_running_note(value)}"
        case ast.Update(name=name, value=value, mode=mode):
            when = (
                ""
                if mode is None
                else f"\\qquad (\\text{{{UPDATE_NOTES.get(mode.name, mode.name)}}})"
            )
            yield f"{_name(name.name)} &\\leftarrow {_latex(value)}{when}"
        case ast.Repeat(count=count, body=body):
            for step in body:
                times = f"\\qquad ({_latex(count)} \\text{{ times}})"
                yield f"{_name(step.name.name)} &\\leftarrow {_latex(step.value)}{times}"
        case ast.Entry(name=name, statements=statements):
            yield f"\\text{{{_escaped(name.name)}:}} &"
            for inner in statements:
                yield from _lines(inner)
        case ast.Gradient(name=name, value=value):
            yield f"\\nabla_{{{_name(name.name)}}} &= {_latex(value)}"
        case ast.Backward(statements=statements):
            yield "\\text{backward:} &"
            yield from (line for inner in statements for line in _lines(inner))
        case ast.Output(items=items):
            for item in items:
                if item.name is not None:
                    right = f"{_latex(item.value)}{_running_note(item.value)}"
                    yield f"{_name(item.name.name)} &= {right}"
                elif len(items) == 1 or not isinstance(item.value, ast.Name):
                    yield f"y &= {_latex(item.value)}{_running_note(item.value)}"


def _running_note(value: ast.Expr) -> str:
    """A note that evaluation uses a running statistic; empty if it does not."""
    if not any(pool.tracked is not None for pool in _pools(value)):
        return ""
    return "\\qquad \\text{(in evaluation the running average)}"


def _pools(node: object) -> Iterator[ast.Pool]:
    if isinstance(node, ast.Pool):
        yield node
    if isinstance(node, ast.Node):
        for field in fields(node):
            yield from _pools(getattr(node, field.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from _pools(item)


# ---- names, axes and pools


def _name(name: str) -> str:
    """A name as a letter, Greek by its name, with the part after an underscore as subscript."""
    head, _, tail = name.partition("_")
    if head in GREEK or len(head) == 1:
        letter = GREEK.get(head, head)
        return f"{letter}_{{{_upright(tail)}}}" if tail else letter
    return f"\\mathit{{{_escaped(name)}}}"


def _upright(text: str) -> str:
    return f"\\mathrm{{{_escaped(text)}}}"


def _comma_list(items: Iterable[str]) -> str:
    return ",\\, ".join(items)


def _escaped(text: str) -> str:
    return text.replace("_", "\\_")


def _axis(axis: ast.AxisRef) -> str:
    name = axis.name if len(axis.name) == 1 else _upright(axis.name)
    return f"{{*}}{name}" if axis.variadic else name


def _pool(pool: ast.Pool, without: Sequence[str] = ()) -> str:
    items = [
        f"{_axis(a.axis)}{{:}}\\,{_matrix(a.matrix)}" if a.matrix else _axis(a.axis)
        for a in pool.axes
    ]
    text = _comma_list(items)
    if pool.where is not None:
        text += f" \\,\\mid\\, {_latex(pool.where)}"
    if pool.weight is not None:
        text += f";\\, {_upright('weight')}\\,{_latex(pool.weight, POSTFIX)}"
    for keyword in pool.keywords:
        if keyword.name not in without:
            text += f";\\, {_upright(keyword.name)} = {_latex(keyword.value)}"
    return text


def _matrix(matrix: ast.Matrix) -> str:
    values = [a.value if isinstance(a, ast.Keyword) else a for a in matrix.arguments]
    name = matrix.name if len(matrix.name) == 1 else _upright(matrix.name)
    arguments = f"({_comma_list(map(_latex, values))})" if values else ""
    extra = f"\\,\\text{{with {matrix.extra.name}}}" if matrix.extra else ""
    within = f"\\,\\text{{within {_escaped(matrix.within.name)}}}" if matrix.within else ""
    return f"{name}{arguments}{extra}{within}"


# ---- expressions


def _latex(expr: ast.Expr, context: int = COMPARE) -> str:
    """The LaTeX of an expression, in parentheses if the context has a higher level."""
    level, text = _expr(expr)
    return text if level >= context else f"\\left({text}\\right)"


def _expr(expr: ast.Expr) -> LeveledText:
    match expr:
        case ast.Number(text=text):
            return _number(text)
        case ast.Text(value=value):
            return POSTFIX, f"\\text{{{value}}}"
        case ast.Name(name=name):
            return POSTFIX, _name(name)
        case ast.Spread(name=name):
            return POSTFIX, f"{{*}}{name}"
        case ast.AxisList(axes=axes):
            return POSTFIX, f"\\left({_comma_list(map(_axis, axes))}\\right)"
        case ast.Missing():
            return POSTFIX, "\\text{?}"
        case ast.Negative(operand=operand):
            return UNARY, f"-{_latex(operand, UNARY)}"
        case ast.Compare(operator=operator, left=left, right=right):
            return COMPARE, f"{_latex(left, SUM)} {RELATIONS[operator]} {_latex(right, SUM)}"
        case ast.Chain():
            return _chain(expr)
        case ast.Power(base=base, exponent=exponent):
            return POWER, f"{{{_latex(base, POSTFIX)}}}^{{{_latex(exponent)}}}"
        case ast.FieldOf(value=value, field=field):
            return POSTFIX, f"{{{_latex(value, POSTFIX)}}}_{{{_upright(field.name)}}}"
        case ast.Index(value=value, subscripts=subscripts):
            below = _comma_list(map(_subscript, subscripts))
            return POSTFIX, f"{{{_latex(value, POSTFIX)}}}_{{{below}}}"
        case ast.Call():
            return _call(expr)


def _number(text: str) -> LeveledText:
    """A number. `1e-5` becomes a power of ten."""
    digits, _, exponent = text.lower().partition("e")
    if not exponent:
        return POSTFIX, text
    power = f"10^{{{int(exponent)}}}"
    return (POWER, power) if float(digits) == 1 else (PRODUCT, f"{digits} \\cdot {power}")


def _chain(chain: ast.Chain) -> LeveledText:
    if chain.operators[0] in "+-":
        text = _latex(chain.operands[0], SUM)
        for operator, operand in zip(chain.operators, chain.operands[1:]):
            text += f" {operator} {_latex(operand, PRODUCT)}"
        return SUM, text
    first, *rest = chain.operands
    level, text = _expr(first)
    for operator, operand in zip(chain.operators, rest):
        if operator == "/":
            level, text = PRODUCT, f"\\frac{{{text}}}{{{_latex(operand)}}}"
            continue
        left = text if level >= PRODUCT else f"\\left({text}\\right)"
        right = _latex(operand, POWER)
        sign = " \\cdot " if right[0].isdigit() else " \\, "
        level, text = PRODUCT, f"{left}{sign}{right}"
    return level, text


def _subscript(subscript: ast.Rename | ast.At | ast.Expr) -> str:
    if isinstance(subscript, ast.At):
        return f"{_axis(subscript.axis)} = {_latex(subscript.position)}"
    if isinstance(subscript, ast.Rename):
        return f"{_axis(subscript.old)} \\to {_axis(subscript.new)}"
    return _latex(subscript)


def _call(call: ast.Call) -> LeveledText:
    name = call.function.name
    if name in FORMS:
        return FORMS[name](call)
    if call.over is not None:
        return _statistic(call)
    arguments = [_latex(a) for a in call.arguments]
    arguments += [f"{_upright(k.name)} = {_latex(k.value)}" for k in call.keywords]
    function = NAMED_FUNCTIONS.get(name, _upright(name))
    return POSTFIX, f"{function}\\left({_comma_list(arguments)}\\right)"


def _statistic(call: ast.Call) -> LeveledText:
    """A statistic such as `mean(x over P)`, with the pool below its name."""
    assert call.over is not None
    name = call.function.name
    pool = _pool(call.over, without=("about",))
    about = next((k.value for k in call.over.keywords if k.name == "about"), None)
    operands = [_latex(a) for a in call.arguments]
    if about is not None:  # a second moment
        name = "mean"
        operands = [
            f"{{\\left({_latex(call.arguments[0], SUM)} - {_latex(about, PRODUCT)}\\right)}}^{{2}}"
        ]
        if isinstance(about, ast.Number) and about.value == 0:
            operands = [f"{{{_latex(call.arguments[0], POSTFIX)}}}^{{2}}"]
    if name in NORM_ORDERS:
        return (
            POSTFIX,
            f"\\left\\lVert {operands[0]} \\right\\rVert_{{{NORM_ORDERS[name]};\\,{pool}}}",
        )
    if name == "sum":
        return SUM, f"\\sum_{{{pool}}} {_latex(call.arguments[0], PRODUCT)}"
    operands += [f"{_upright(k.name)} = {_latex(k.value)}" for k in call.keywords]
    arguments = f"\\left({_comma_list(operands)}\\right)" if operands else ""
    return POSTFIX, f"\\mathop{{{_upright(name)}}}\\limits_{{{pool}}}{arguments}"


def _affine(call: ast.Call) -> LeveledText:
    """An affine map: the weight times the value, plus the bias."""
    assert call.per is not None
    scales, shifts = "", ""
    for term in call.per.terms:
        axes = _comma_list(map(_axis, term.axes))
        parts = (term.only.name,) if term.only else ("weight", "bias")
        for name in parts:
            symbol = f"\\mathit{{{_escaped(name)}}}_{{{axes}}}"
            if name == "bias":
                shifts += f" + {symbol}"
            else:
                scales += f"{symbol} \\, "
    level, value = _expr(call.arguments[0])
    if scales and (level < PRODUCT or level == UNARY):
        value = f"\\left({value}\\right)"
    return (SUM if shifts else PRODUCT), f"{scales}{value}{shifts}"


def _cases(*rows: tuple[str, str]) -> LeveledText:
    lines = " \\\\ ".join(f"{value} & {when}" for value, when in rows)
    return POSTFIX, f"\\begin{{cases}} {lines} \\end{{cases}}"


def _where(call: ast.Call) -> LeveledText:
    condition, yes, no = map(_latex, call.arguments)
    return _cases((yes, f"\\text{{if }} {condition}"), (no, "\\text{otherwise}"))


def _mode(call: ast.Call) -> LeveledText:
    branches = {keyword.name: _latex(keyword.value) for keyword in call.keywords}
    train, evaluated = branches["train"], branches["eval"]
    return _cases((train, "\\text{in training}"), (evaluated, "\\text{in evaluation}"))


def _root(call: ast.Call) -> LeveledText:
    return POSTFIX, f"\\sqrt{{{_latex(call.arguments[0])}}}"


def _absolute(call: ast.Call) -> LeveledText:
    """An absolute value, or the length of an axis."""
    return POSTFIX, f"\\left\\lvert {_latex(call.arguments[0])} \\right\\rvert"


FORMS: dict[str, Callable[[ast.Call], LeveledText]] = {
    "affine": _affine,
    "where": _where,
    "mode": _mode,
    "sqrt": _root,
    "abs": _absolute,
    "size": _absolute,
}
