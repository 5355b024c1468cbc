"""Files that are no specs, and specs that want too much: a clear error, soon."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import limited
import pytest
from limited import Ended, checked, metanorm

NORM = "norm A {\n  input  x[N, C]\n"
MEGABYTES_100 = 100_000_000


def spec(*lines: str, output: str = "x") -> str:
    return NORM + "".join(f"  {line}\n" for line in lines) + f"  output {output}\n}}\n"


def lets(number: int, value: str) -> list[str]:
    """`let v1 = ...`: `#` stands for the number of each, `@` for the one before."""
    return [
        f"let v{i} = {value.replace('#', str(i)).replace('@', f'v{i - 1}')}"
        for i in range(1, number)
    ]


def total(number: int) -> str:
    return " + ".join(f"v{i}" for i in range(1, number))


def names(number: int) -> list[str]:
    return [f"h{i}" for i in range(number)]


def hypers(number: int) -> str:
    """The head of a norm with so many hyperparameters."""
    return f"norm A({', '.join(f'{h} = 1' for h in names(number))}) {{\n  input  x[N, C]\n"


# Specs that are fine, and large: they compile.
LEGAL = {
    "a chain of lets": spec("let v0 = x", *lets(2900, "@ + 1"), output="v2899"),
    "lets and a wide sum": spec(*lets(2000, "# * x"), output=total(2000)),
    "pools of pools": spec("let v0 = x", *lets(1800, "@ - mean(@ over C)"), output="v1799"),
    "the same pool": spec(*lets(1500, "x - mean(x over C)"), output=total(1500)),
    "a wide sum": spec(output="+".join(["x"] * 9_900)),
    "a wide product": spec(output="*".join(["x"] * 9_900)),
    "quotients": spec(output=" / ".join(["(1 + x^2)"] * 2450)),
    "negatives": spec(output="+".join(["-x"] * 6600)),
    "functions": spec(output="+".join(["sqrt(exp(x))"] * 2450)),
    "parameters": spec(*(f"param p{i}[C] = {i}" for i in range(900)), output="x + p7"),
    "affine maps": spec("let v0 = x", *lets(900, "affine(@ per C)"), output="v899"),
    "a layer of torch but for a chain": "norm A(eps = 1e-5) {\n  input  x[N, C = c]\n"
    "  let v0 = mean(x over N)\n  let s = var(x over N)\n"
    + "".join(f"  {line}\n" for line in lets(900, "tanh(@)"))
    + "  output affine((x - v899) / sqrt(s + eps) per C)\n}\n",
    # Each value is read twice by the next: whoever follows them to the first one never ends.
    "values that double beside a mask": "norm A {\n  input  x[N, C], keep: mask[N, C]\n"
    "  let v0 = mean(x over C where keep)\n"
    + "".join(f"  {line}\n" for line in lets(26, "tanh(@) * @"))
    + "  output x * v25\n}\n",
    "positions that double": spec(
        "let v0 = position(C)", *lets(60, "@ * @ + @"), output="where(v59 < 0.5, x, 2 * x)"
    ),
    "weights that double": spec(
        "let v0 = position(C)", *lets(400, "@ + 2 * @"), output="x - mean(x over C weight v399)"
    ),
    "outputs": spec(output=", ".join(f"y{i} = x + {i}" for i in range(900))),
    "statistics": NORM
    + "".join(f"  stat s{i} over C\n" for i in range(900))
    + f"  mix {', '.join(f's{i}' for i in range(900))} by softmax\n}}\n",
    "axes": f"norm A {{\n  input x[{', '.join(f'A{i}' for i in range(32))}]\n"
    + "".join(f"  let v{i} = mean(x over A{i % 32})\n" for i in range(1, 1500))
    + f"  output x + {total(1500)}\n}}\n",
    "norms": "".join(f"norm A{i} {{ input x[N, C] reduce C affine C }}\n" for i in range(100)),
    "comments": "#\n" * 120_000 + spec(),
    "comments inside": spec().replace("{", "{\n" + "#\n" * 120_000),
    "comments of many norms": "".join(
        f"norm A{i} {{ input x[N, C]\n{'#' + chr(10)} reduce C }}\n{('#' + chr(10)) * 1000}"
        for i in range(100)
    ),
    "one comment": "# " + "c" * 250_000 + "\n" + spec(),
    "blank lines": "\n" * 250_000 + spec(),
    "hyperparameters": hypers(990) + f"  output x + {' + '.join(names(990))}\n}}\n",
    "a product of hyperparameters": hypers(990) + f"  output x * ({' * '.join(names(990))})\n}}\n",
    "numbers that double": hypers(2)
    + "  let v0 = h1\n"
    + "".join(f"  let v{i} = v{i - 1} * h0 + v{i - 1}\n" for i in range(1, 500))
    + "  output x * v499\n}\n",
    "values that double": spec("let v0 = x", *lets(300, "@ + @ * mean(@ over C)"), output="v299"),
    "modes": spec("let v0 = x", *lets(300, "mode(train: @ + x, eval: @)"), output="v299"),
    "lengths": spec(output=f"x * ({' + '.join(['size(C)'] * 2000)})"),
    "norms of norms": "norm A0 { input x[N, C] reduce C affine C }\nnorm B {\n  input x[N, C]\n"
    + "  let v0 = x\n"
    + "".join(f"  let v{i} = A0(v{i - 1})\n" for i in range(1, 150))
    + "  output v149\n}\n",
    "a use, often": 'use "batch_norm.norm"\n' * 6000 + spec(),
}

# Specs that are not, with the code of the first thing that is said about them.
ILLEGAL = {
    "parentheses": (spec(output="(" * 100_000 + "x" + ")" * 100_000), "MN0106"),
    "brackets": (spec(output="x" + "[" * 100_000 + "]" * 100_000), "MN0101"),
    "subscripts": (spec(output="x[" * 80_000), "MN0106"),
    "braces": ("norm A " + "{" * 200_000, "MN0101"),
    "calls": (spec(output="sqrt(" * 40_000 + "x" + ")" * 40_000), "MN0106"),
    "minus": (spec(output="-" * 100_000 + "x"), "MN0609"),
    "minus, fewer": (spec(output="-" * 19_000 + "x"), "MN0106"),
    "sums": (spec(output="+".join(["x"] * 100_000)), "MN0609"),
    "powers": (spec(output="^".join(["x"] * 100_000)), "MN0609"),
    "powers, fewer": (spec(output="^".join(["x"] * 9_900)), "MN0106"),
    "powers of negatives": (spec(output="x" + "^-x" * 6600), "MN0106"),
    "comparisons": (spec(output="<".join(["x"] * 9_900)), "MN0101"),
    "fields": (spec(output="x" + ".a" * 9_900), "MN0106"),
    "renames": (spec(output="x" + "[N -> M]" * 3900), "MN0106"),
    "arguments": (spec(output=f"max({','.join(['x'] * 9_000)})"), "MN0502"),
    "repeats": (spec("let d = 1", "repeat 2 { " * 10_000), "MN0105"),
    "axes": (f"norm A {{ input x[{', '.join(f'A{i}' for i in range(7000))}] }}", "MN0609"),
    "parts": (spec(f"axis C = ({', '.join(f'A{i} = 2' for i in range(5000))}, B)"), "MN0609"),
    "new axes": (spec(*lets(3000, "x[N -> M#]")), "MN0609"),
    "hyperparameters": (
        f"norm A({', '.join(f'h{i} = 1' for i in range(7000))}) {{ input x[N] reduce N }}",
        "MN0609",
    ),
    "parameters": (spec(*(f"param p{i} = 1" for i in range(5000))), "MN0609"),
    "affine maps": (spec(*lets(3000, "affine(x per C)")), "MN0609"),
    "tracked": (spec(*lets(2500, "mean(# * x over N track 0.1)")), "MN0609"),
    "outputs": (spec(output=", ".join(["x"] * 9_000)), "MN0609"),
    "norms": ("".join(f"norm A{i} {{ input x[N] reduce N }}\n" for i in range(2500)), "MN0609"),
    "calls of calls": (
        "norm A0 { input x[N] output x / (1 + x) }\n"
        + "".join(
            f"norm A{i} {{ input x[N] output A{i - 1}(x) + A{i - 1}(2 * x) }}\n"
            for i in range(1, 95)
        ),
        "MN0609",
    ),
    "calls in calls": (
        "norm A0 { input x[N] reduce N }\n"
        + "".join(f"norm A{i} {{ input x[N] output A{i - 1}(x) }}\n" for i in range(1, 95)),
        "MN0609",
    ),
    "a circle of calls": (
        "".join(f"norm A{i} {{ input x[N] output A{(i + 1) % 95}(x) }}\n" for i in range(95)),
        "MN0609",
    ),
    "unknown names": (spec(*(f"let v{i} = w{i}" for i in range(4600))), "MN0201"),
    "one unknown name": (spec(*lets(4600, "y")), "MN0201"),
    "unknown clauses": ("norm A {\n" + "clause\n" * 19_000 + "}\n", "MN0103"),
    "unknown clauses in a line": ("norm A { " + "clause " * 19_000 + "}", "MN0103"),
    "missing files": ("".join(f'use "a{i}.norm"\n' for i in range(9_000)) + spec(), "MN0802"),
    "strange paths": ("".join(f'use "/{i}"\n' for i in range(9_000)) + spec(), "MN0805"),
    "a long path": (f'use "{"a" * 200_000}.norm"\n' + spec(), "MN0805"),
    "an initial value": (
        hypers(900) + f"  param p = {' + '.join(names(900))}\n  output x * p\n}}\n",
        "MN0609",
    ),
    "a bound": (
        hypers(900) + f"  param p = 0 in [0, {' + '.join(names(900))}]\n  output x * p\n}}\n",
        "MN0609",
    ),
    "numbers that double through calls": (
        "norm A0(e = 1) { input x[N] param p = e output x * p }\n"
        + "".join(
            f"norm A{i}(e = 1) {{ input x[N] output A{i - 1}(x, e = e + e * e) }}\n"
            for i in range(1, 30)
        ),
        "MN0609",
    ),
    "digits": (spec(output="1" * 250_000), "MN0107"),
    "digits behind the point": (spec(output="0." + "1" * 250_000), "MN0107"),
    "an exponent": (spec(output="1e999999"), "MN0107"),
    "digits of an exponent": (spec(output="1e" + "9" * 250_000), "MN0107"),
    "a long name": (spec(output="y" * 250_000), "MN0208"),
    "a long name of a norm": (f"norm {'A' * 250_000} {{ input x[N] reduce N }}", "MN0208"),
    "quotes": ('"' * 250_000, "MN0609"),
    "closing brackets": (")" * 19_000, "MN0101"),
    "stray characters": (spec(output="@ " * 9_000), "MN0104"),
    "letters of elsewhere": (spec(output=" + ".join("é" * 9_000)), "MN0104"),
    "control characters": ("\0" * 250_000, "MN0609"),
    "norm": ("norm " * 19_000, "MN0105"),
    "let": ("norm A { " + "let " * 19_000, "MN0105"),
    "use": ("use " * 19_000, "MN0101"),
    "nothing but sizes": (spec(*(f"param p{i}[K{i} = 2] = 1" for i in range(2000))), "MN0609"),
    "allowances": ("# norm: allow MN0701\n" * 11_000 + spec(), "MN0703"),
}


@pytest.mark.parametrize("shape", LEGAL)
def test_large_specs_compile(shape: str, tmp_path: Path) -> None:
    (tmp_path / "spec.norm").write_text(LEGAL[shape])
    done = metanorm("compile", "spec.norm", "-o", "out", folder=tmp_path)
    assert done.code == 0, done.text[:2000]
    ast.parse((tmp_path / "out" / "spec.py").read_text())


@pytest.mark.parametrize("shape", ILLEGAL)
def test_specs_that_want_too_much_end_in_an_error(shape: str, tmp_path: Path) -> None:
    text, code = ILLEGAL[shape]
    assert len(text.encode()) < 256 * 1024, "it would not be read"
    (tmp_path / "spec.norm").write_text(text)
    done = metanorm("compile", "spec.norm", "-o", "out", folder=tmp_path)
    warns = code == "MN0703"
    assert done.code == (0 if warns else 1), done.text[:2000]
    assert code in done.codes, done.text[:2000]
    assert len(done.text) < 200_000, "a report is for reading"
    assert (tmp_path / "out").exists() == warns


@pytest.mark.parametrize(
    "command",
    ["explain", *(pytest.param(c, marks=pytest.mark.extended) for c in ("fmt", "inspect"))],
)
@pytest.mark.parametrize("shape", ("lets and a wide sum", "a wide sum", "norms", "comments"))
def test_other_commands_stand_large_specs(command: str, shape: str, tmp_path: Path) -> None:
    (tmp_path / "spec.norm").write_text(LEGAL[shape])
    assert metanorm(command, "spec.norm", folder=tmp_path).code == 0


@pytest.mark.parametrize("command", ("fmt", "explain", "inspect", "check"))
@pytest.mark.parametrize("shape", ("parentheses", "powers, fewer", "calls of calls", "quotes"))
def test_other_commands_stand_bad_specs(command: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.norm"
    path.write_text(ILLEGAL[shape][0])
    formats = command == "fmt" and shape == "calls of calls"  # its syntax is fine
    assert metanorm(command, "spec.norm", folder=tmp_path).code == (0 if formats else 1)
    assert formats or path.read_text() == ILLEGAL[shape][0]


# ---- files that are no text


UNREADABLE = {
    "Latin-1": ("norm Café { }".encode("latin-1"), "byte 9 is not UTF-8"),
    "UTF-16": ("norm A { }".encode("utf-16"), "byte 1 is not UTF-8"),
    "half a character": ("norm A { } # é".encode()[:-1], "is not UTF-8"),
    "surrogates": (b"norm A { } # \xed\xa0\x80", "is not UTF-8"),
    "binary": (bytes(range(256)) * 8, "is not UTF-8"),
}


@pytest.mark.parametrize("sort", UNREADABLE)
def test_files_that_are_not_utf8(sort: str, tmp_path: Path) -> None:
    data, reason = UNREADABLE[sort]
    (tmp_path / "spec.norm").write_bytes(data)
    done = metanorm("check", "spec.norm", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0802"})
    assert reason in done.out
    piped = metanorm("check", "-", folder=tmp_path, stdin=data)
    assert (piped.code, piped.codes) == (1, {"MN0802"})


@pytest.mark.parametrize("text", ("", "\n\n", "# nothing yet", "\ufeff", " \t\r\n"))
def test_files_without_a_norm(text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.norm").write_bytes(text.encode())
    done = metanorm("compile", "spec.norm", "-o", "out", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0803"})
    assert not (tmp_path / "out").exists()


def test_a_byte_order_mark_and_any_line_ends_are_fine(tmp_path: Path) -> None:
    for ends in ("\n", "\r\n", "\r"):
        text = "\ufeff" + spec("let    y = 2 * x", output="y").replace("\n", ends)
        (tmp_path / "spec.norm").write_bytes(text.encode())
        assert metanorm("check", "spec.norm", folder=tmp_path).code == 0


HUGE = {
    "one line": b"a" * MEGABYTES_100,
    "many lines": b"let a = 1\n" * (MEGABYTES_100 // 10),
    "a norm": NORM.encode() + b"  let a = x\n" * (MEGABYTES_100 // 12) + b"}\n",
    "nothing": b"\0" * MEGABYTES_100,
    "not UTF-8": b"\xff" * MEGABYTES_100,
}


@pytest.mark.parametrize("shape", HUGE)
def test_files_of_100_megabytes(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.norm"
    path.write_bytes(HUGE[shape])
    for command in ("check", "fmt"):
        done = metanorm(command, "spec.norm", folder=tmp_path)
        assert (done.code, done.codes) == (1, {"MN0802"})
        assert "larger than 256 KiB" in done.text
    assert path.stat().st_size == len(HUGE[shape])
    piped = metanorm("check", "-", folder=tmp_path, stdin=HUGE[shape])
    assert (piped.code, piped.codes) == (1, {"MN0802"})
    path.unlink()


def test_a_folder_that_looks_like_a_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.norm").mkdir()
    done = metanorm("check", "spec.norm", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0802"})
    assert "it is a folder" in done.out


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "nowhere.norm").symlink_to("missing.norm")
    (tmp_path / "circle.norm").symlink_to("circle.norm")
    for name in ("nowhere.norm", "circle.norm", "."):
        done = metanorm("check", name, folder=tmp_path)
        assert (done.code, done.codes) == (1, {"MN0802"})


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to would block for ever, a device would never end."""
    os.mkfifo(tmp_path / "pipe.norm")
    (tmp_path / "user.norm").write_text('use "pipe.norm"\n' + spec())
    for name in ("pipe.norm", "user.norm", "/dev/zero", "/dev/null"):
        done = metanorm("check", name, folder=tmp_path)
        assert (done.code, done.codes) == (1, {"MN0802"}), name
        assert "not a regular file" in done.out


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.norm"
    path.write_text(spec())
    path.chmod(0)
    done = metanorm("check", "spec.norm", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0802"})
    assert "no permission" in done.out


def test_a_file_that_the_system_refuses(tmp_path: Path) -> None:
    """As above, for root too: part of the path is a file, or the name is longer than allowed."""
    (tmp_path / "file").write_text(spec())
    for name in ("file/spec.norm", "a" * 300 + ".norm", "a" * 5000 + ".norm"):
        done = metanorm("check", name, folder=tmp_path)
        assert (done.code, done.codes) == (1, {"MN0802"})


# ---- names of files

NAMES = (
    'a"""b.norm',
    "a'b.norm",
    "a\\b.norm",
    "a\nb.norm",
    "a\x1b[31mb.norm",
    "a b.norm",
    "{x}.norm",
    "$(id).norm",
    "1x.norm",
    "ünï.norm",
    "class.norm",
    "a.b.norm",
    ".norm",
    "__init__.norm",
    "\u202enorm.norm",
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_no_module_can_have(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(spec())
    done = metanorm("compile", f"./{name}", "-o", "out", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0804"})
    assert not (tmp_path / "out").exists()
    assert "\x1b" not in done.text and "\u202e" not in done.text
    done = metanorm("check", f"./{name}", folder=tmp_path)
    assert (done.code, done.codes) == (1, {"MN0804"})


def test_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.norm")
    (tmp_path / name).write_text(spec())
    for command in (("check", "."), ("compile", ".", "-o", "out")):
        done = metanorm(*command, folder=tmp_path)
        assert (done.code, done.codes) == (1, {"MN0804"})


def test_a_chain_of_files_that_use_each_other(tmp_path: Path) -> None:
    for i in range(500):
        text = f'use "f{i + 1}.norm"\nnorm F{i} {{ input x[N, C] output F{i + 1}(x) }}\n'
        (tmp_path / f"f{i}.norm").write_text(text)
    (tmp_path / "f500.norm").write_text('use "f0.norm"\nnorm F500 { input x[N, C] reduce C }\n')
    done = metanorm("check", "f0.norm", folder=tmp_path)
    assert done.code == 1
    assert done.codes == {"MN0802", "MN0609"}


def test_files_that_use_each_other_in_a_circle(tmp_path: Path) -> None:
    for user, used in (("a", "b"), ("b", "a")):
        norm = f"norm {user.upper()} {{ input x[N, C] output {used.upper()}(x) }}\n"
        (tmp_path / f"{user}.norm").write_text(f'use "{used}.norm"\n{norm}')
    (tmp_path / "self.norm").write_text('use "self.norm"\n' + spec())
    assert metanorm("check", "a.norm", "b.norm", folder=tmp_path).codes == {"MN0605"}
    assert metanorm("check", "self.norm", folder=tmp_path).code == 0


@pytest.mark.parametrize("path", ("../secret", "../../etc/passwd", "/etc/passwd", "a\\\\b.norm"))
def test_use_reads_specs_only(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    (tmp_path / "secret").write_text("the secret")
    (folder / "spec.norm").write_text(f'use "{path}"\n' + spec())
    done = metanorm("check", "spec.norm", folder=folder)
    assert (done.code, done.codes) == (1, {"MN0805"})
    assert "the secret" not in done.text


GREEDY = "data = bytearray(500 * 1024 * 1024)"
BUSY = "while True: pass"


@pytest.mark.parametrize("code, ends", ((GREEDY, "MemoryError"), (BUSY, "killed by signal")))
def test_the_limits_are_limits(code: str, ends: str) -> None:
    """A command that needs more memory or time than it may have is noticed."""
    done = subprocess.run(
        [sys.executable, "-c", f"import limited; limited.limit(1)\n{code}"],
        env={**os.environ, "PYTHONPATH": str(Path(limited.__file__).parent)},
        capture_output=True,
        text=True,
    )
    with pytest.raises(AssertionError, match=ends):
        checked(Ended(done.returncode, done.stdout, done.stderr))
