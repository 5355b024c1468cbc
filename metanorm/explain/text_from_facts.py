"""Facts as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metanorm.explain.facts import Facts


def text_from_facts(answer: Facts) -> str:
    """The facts of a norm, as `metanorm explain` prints them."""
    train = _yes_or_no(answer.samples_meet_in_training)
    evaluation = _yes_or_no(answer.samples_meet_in_evaluation)
    title = answer.norm + (f", for a {answer.target}" if answer.target != "activation" else "")
    lines = [title, *([f"  {answer.about}"] if answer.about else []), ""]
    lines += ["In equations", *(f"  {line}" for line in answer.equations.split("\n")), ""]
    lines += _section("What is pooled", answer.pools, "nothing")
    lines += _section("What is learned", answer.learned, "nothing")
    lines += _section("What is kept between calls", answer.kept, "nothing")
    if answer.stated:
        lines += _section("What is stated of the backward pass, in training", answer.stated, "")
    if answer.target in ("activation", "loss"):
        lines += ["Do samples influence each other?", f"  in training: {train}"]
        lines += [f"  in evaluation: {evaluation}", ""]
    cost = "Cost, with derived gradients alone" if answer.stated else "Cost"
    lines += [cost, f"  {answer.reads}", *(f"  {line}" for line in _cost_lines(answer)), ""]
    lines += ["Kernels", f"  {answer.kernels}", ""]
    if answer.among_processes:
        lines += _section("Divided among processes", answer.among_processes, "")
    lines += _section("The same as", answer.equals, "no other norm of the library")
    lines += _section("To tools of torch", (_torch_class_text(answer),), "")
    return "\n".join(lines[:-1]) + "\n"


def _cost_lines(answer: Facts) -> Iterator[str]:
    """The sweeps of each direction, with the formulas of what is measured and written."""
    for cost in answer.costs:
        island_bytes, sweep_bytes = cost.bytes_of_islands, cost.bytes_of_sweeps
        traffic = f"{island_bytes} bytes for each float32 element"
        if sweep_bytes != island_bytes:
            traffic += f" where an island stays in the cache, else {sweep_bytes}"
        yield f"{cost.of}: {cost.sweeps} sweep{'s' if cost.sweeps != 1 else ''}, {traffic}"
        yield f"  islands: {cost.islands}"
        for line in cost.computes:
            yield f"  computes {line}"
        for line in cost.measures:
            yield f"  measures {line}"
        for line in cost.writes:
            yield f"  writes {line}"


def _torch_class_text(answer: Facts) -> str:
    """The class of a norm for tools that check for layers of torch."""
    if answer.derives_from:
        return f"a {answer.derives_from}, from which its class derives"
    if answer.torch_layer:
        return f"a module; it computes what {answer.torch_layer} does, but {answer.why_not_derived}"
    return "a module, which equals no layer of torch"


def _section(title: str, lines: Sequence[str], otherwise: str) -> list[str]:
    return [title, *(f"  {line}" for line in lines or (otherwise,)), ""]


def _yes_or_no(answer: bool) -> str:
    return "yes" if answer else "no"
