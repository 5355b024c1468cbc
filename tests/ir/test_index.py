"""What can be looked up in a program."""

from __future__ import annotations

from dataclasses import replace

from metanorm.frontend import check
from metanorm.ir.index import closure
from metanorm.ir.program import Program
from metanorm.source import Source

TEXT = """norm T(eps = 1e-5) {
  input  x[N, C]
  param  gain[C] = 1
  let    m = mean(x over C)
  let    unused = mean(x over N)
  output gain * (x - m)
}
"""


def program() -> Program:
    (norm,) = check({"t.norm": Source.of("t.norm", TEXT)}, ["t.norm"]).norms["t.norm"]
    return norm.program


def test_bindings_and_declarations_are_found_by_name() -> None:
    indexed = program()
    index = indexed.index
    assert list(index.lets) == [let.name for let in indexed.body] == list(index.ops)
    assert index.types["m"].axes == ("N",)
    assert [*index.inputs, *index.params] == ["x", "gain"] == list(index.declarations)
    assert index.space["C"].name == "C"


def test_users_are_those_that_read_a_value() -> None:
    indexed = program()
    users = indexed.index.users
    read = {ref: [let.name for let in lets] for ref, lets in users.items()}
    assert "m" in read["x"] and "unused" in read["x"]
    assert len(read["m"]) == 1 and read["unused"] == []


def test_a_closure_has_all_that_values_need() -> None:
    indexed = program()
    needed = indexed.index.closure(ref for _, ref in indexed.outputs)
    assert {"x", "gain", "m"} <= needed and "unused" not in needed
    reads = {"a": "bc", "b": "d", "c": "d", "d": "a"}
    assert closure("b", lambda ref: reads[ref]) == set("abcd")


def test_a_changed_program_has_an_index_of_its_own() -> None:
    indexed = program()
    assert indexed.index is indexed.index
    other = replace(indexed, body=indexed.body[:1])
    assert list(other.index.lets) == [indexed.body[0].name] and len(indexed.index.lets) > 1
