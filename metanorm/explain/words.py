"""Facts as text."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.explain.facts import Facts


def in_words(answer: Facts) -> str:
    """The facts of a norm, as `metanorm explain` prints them."""
    train = _yes(answer.samples_meet_in_training)
    evaluation = _yes(answer.samples_meet_in_evaluation)
    lines = [answer.norm, *([f"  {answer.about}"] if answer.about else []), ""]
    lines += ["In equations", *(f"  {line}" for line in answer.equations.split("\n")), ""]
    lines += _section("What is pooled", answer.pools, "nothing")
    lines += _section("What is learned", answer.learned, "nothing")
    lines += _section("What is kept between calls", answer.kept, "nothing")
    lines += ["Do samples influence each other?", f"  in training: {train}"]
    lines += [f"  in evaluation: {evaluation}", ""]
    lines += ["Cost", f"  {answer.reads}", ""]
    lines += _section("The same as", answer.equals, "no other norm of the library")
    return "\n".join(lines[:-1]) + "\n"


def _section(title: str, lines: Sequence[str], otherwise: str) -> list[str]:
    return [title, *(f"  {line}" for line in lines or (otherwise,)), ""]


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
