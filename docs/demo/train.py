"""Train with generated norms on digits and on graphs; end with a table and a chart.

make demo                                             compiles the specs and runs this
PYTHONPATH=build/demo python docs/demo/train.py       once they are compiled
"""

from __future__ import annotations

import argparse
import sys
import time
from io import TextIOWrapper
from pathlib import Path

from requirements import missing


def main() -> int:
    """The demo; 0 if it ran, 2 if it could not."""
    arguments = _arguments()
    problem = missing()
    if problem is not None:
        print(problem, file=sys.stderr, end="")
        return 2
    try:
        run(arguments.chart, seeds=arguments.seeds, quick=arguments.quick)
    except KeyboardInterrupt:
        print("\nstopped; no chart was written", file=sys.stderr)
        return 130
    return 0


def run(path: Path, seeds: int, quick: bool) -> None:
    """Both experiments, one after the other."""
    # Imported here: these need what `missing` looks for.
    import chart
    import digits
    import graphs
    import report
    import torch
    from progress import train_all
    from rich.console import Console

    # One thread, since more cost more than they bring on tensors this small; and with the number
    # fixed, sums are added up in the same order on every run.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII pipe gets question marks, no traceback
    console = Console()
    start = time.perf_counter()

    on_digits, on_graphs = digits.experiment(quick), graphs.experiment(quick)
    digit_results = train_all(on_digits, seeds, console)
    graph_results = train_all(on_graphs, seeds, console)

    console.print()
    console.print(report.table(on_digits, digit_results))
    blended = next(result for result in digit_results if result.name == "BlendNorm")
    console.print(report.shares(digits.batch_shares(blended.runs[-1].network)), highlight=False)
    console.print()
    console.print(report.table(on_graphs, graph_results))
    chart.draw([(on_digits, digit_results), (on_graphs, graph_results)], path)
    console.print(f"{path}: learning curves", highlight=False, soft_wrap=True)
    console.print(f"trained for {time.perf_counter() - start:.0f} s", highlight=False)
    hint = "how long a step takes beside torch.nn's norms: metanorm bench --networks"
    console.print(hint, highlight=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train with the norms that metanorm compiled.")
    parser.add_argument(
        "--chart", type=_file, default="build/demo/results.png", help="PNG to write (%(default)s)"
    )
    parser.add_argument("--seeds", type=_count, default=3, help="runs per norm (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one epoch on a part of the data")
    return parser.parse_args()


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
