"""Runs the examples of specs: on the oracle, and on every target that the machine has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from metanorm import driver
from metanorm.frontend import CheckedNorm
from metanorm.ir.program import InputDecl, Program
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.targets import TARGET_OF_DEVICE, Target
from metanorm.semantics.examples import Constant, Example
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.targets.registry import target_for_device
from metanorm.verify.agreement import expected_dtype
from metanorm.verify.cases import F64, Setting
from metanorm.verify.cases import Example as Call
from metanorm.verify.compare import call_module
from metanorm.verify.example_results import ORACLE, ExampleResult
from metanorm.verify.initial_state import initialize_state
from metanorm.verify.kernels import has_kernels
from metanorm.verify.reference import reference

Values = dict[str, Tensor]
DTYPES = {"mask": torch.bool, "index": torch.long, "whole": torch.long, "edges": torch.long}
MOST_DIGITS = 6  # of a number that a report shows


@dataclass(frozen=True)
class ModuleRunner:
    """Where a module runs an example: a device and a target, which has a name in reports."""

    target: Target
    device: str


def module_runners() -> list[ModuleRunner]:
    """Every target on every device of this machine."""
    devices = [*TARGET_OF_DEVICE] if torch.cuda.is_available() else ["cpu"]
    return [
        ModuleRunner(target, device)
        for device in devices
        for target in ("torch", TARGET_OF_DEVICE[device].name)
    ]


def results_of_file(
    norms: Sequence[CheckedNorm], sources: Mapping[str, Source], root: str
) -> Iterator[ExampleResult]:
    """The result of each example of a file, in the order of its text."""
    if not any(norm.examples for norm in norms):
        return
    runners = module_runners()
    modules = {runner.device: _module(sources, root, runner.device) for runner in runners}
    for norm in norms:
        for example in norm.examples:
            passed, failures = _run_everywhere(norm.program, example, modules, runners)
            at = sources[root].position(example.span.start)
            name = norm.program.name
            yield ExampleResult(name, root, at.line, at.column, passed, failures)


def _module(sources: Mapping[str, Source], root: str, device: str) -> ModuleType:
    options = Options(target=target_for_device(device).name)
    result = driver.compile_specs(sources, [root], options)
    return module_from_files(result.files, module_name(root))


def _run_everywhere(
    program: Program,
    example: Example,
    modules: Mapping[str, ModuleType],
    runners: Sequence[ModuleRunner],
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Who gives what one example expects, and what others give."""
    passed: list[str] = []
    failures: dict[str, str] = {}
    for runner in runners:
        module = modules[runner.device]
        if runner.target != "torch" and not has_kernels(module, runner.device):
            continue
        name = runner.target if runner.device == "cpu" else f"{runner.target} on {runner.device}"
        try:
            with use(runner.target):
                run = _Run(program, example, module, runner.device)
                values_by_runner = {name: run.on_module()}
        except NotServed:
            continue
        except Exception as error:  # of a module, which any example may call wrongly
            failures[name] = f"raised {type(error).__name__}: {error}"
            continue
        if ORACLE not in (*passed, *failures):
            values_by_runner = {ORACLE: run.on_oracle(), **values_by_runner}
        for runner_name, values in values_by_runner.items():
            wrong = _difference(example, values)
            if wrong:
                failures[runner_name] = wrong
            else:
                passed.append(runner_name)
    return tuple(passed), failures


class _Run:
    """A module that is as an example says, and the inputs of the call."""

    def __init__(self, program: Program, example: Example, module: ModuleType, device: str) -> None:
        self.program, self.example = program, example
        inputs = {d.name: _input(d, example.tensors.get(d.name)) for d in program.given_inputs}
        groups = {
            d.name: int(index.max()) + 1 if index.numel() else 0
            for d in program.inputs
            if d.has_group_count
            for index in (inputs[d.name],)
            if index is not None
        }
        arguments = {name: _argument(value) for name, value in example.arguments.items()}
        norm: nn.Module = getattr(module, program.name)(**arguments).double()
        initialize_state(program, norm, inputs)
        if hasattr(norm, "has_begun"):
            norm.has_begun = True  # type: ignore[assignment] # what is not given is as declared
        with torch.no_grad():
            for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
                if name in example.tensors:
                    tensor.copy_(torch.tensor(example.tensors[name], dtype=F64))
        self.norm = norm.to(device).train(example.training)
        self.buffers = {n: b.detach().cpu().clone() for n, b in norm.named_buffers()}
        self.call = Call(arguments, inputs, groups, {})
        self.device = device

    def on_module(self) -> Values:
        """What the module gives: its outputs, and its buffers after the call."""
        inputs = {n: None if x is None else x.to(self.device) for n, x in self.call.inputs.items()}
        outputs = call_module(self.program, self.norm, inputs, self.call)
        return {**dict(self.norm.named_buffers()), **outputs}

    def on_oracle(self) -> Values:
        """The same of the oracle."""
        setting = Setting("example", training=self.example.training, dtype=F64)
        expected = reference(
            self.program, self.norm, self.call.inputs, self.buffers, self.call, setting
        )
        outputs = {
            name: value.to(expected_dtype(self.program, name, setting))
            for name, value in expected.outputs.items()
        }
        return {**self.buffers, **expected.updates, **outputs}


def _input(decl: InputDecl, value: Constant) -> Tensor | None:
    if value is None:
        return None
    return torch.tensor(value, dtype=DTYPES.get(decl.sort, F64))


def _argument(value: Constant) -> object:
    """An argument of a constructor; a matrix is a tensor, a shape a tuple."""
    is_matrix = isinstance(value, tuple) and value and isinstance(value[0], tuple)
    return torch.tensor(value, dtype=F64) if is_matrix else value


def _difference(example: Example, values: Mapping[str, Tensor]) -> str:
    """What is not as expected; empty where all is."""
    for name, constant in example.expected.items():
        actual = values[name].detach().to("cpu", F64)
        expected = torch.tensor(constant, dtype=F64)
        if expected.dim() and expected.shape != actual.shape:
            return f"{name} has the shape {list(actual.shape)}, expected {list(expected.shape)}"
        expected = expected.expand_as(actual)
        finite = expected[expected.isfinite()].abs()
        scale = max(1.0, float(finite.max()) if finite.numel() else 1.0)
        if not torch.allclose(
            actual, expected, rtol=0.0, atol=example.within * scale, equal_nan=True
        ):
            return f"{name} is {_text(actual)}, expected {_text(expected)}"
    return ""


def _text(tensor: Tensor) -> str:
    """A tensor as it is written in a spec."""
    if tensor.dim() == 0:
        return f"{float(tensor):.{MOST_DIGITS}g}"
    return f"[{', '.join(map(_text, tensor))}]"
