"""The command line of the simulator: the demo and the search for a loss."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.errors import Error
from tallystick.protocol.problems import problem_document, problem_for

app = typer.Typer(no_args_is_help=True)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running, and the data where it is.")] = False,
    data: Annotated[Path | None, typer.Option(help="Play in this new directory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end instead of the story.")] = False,
) -> None:
    """Play the whole story on this machine: one activation server, three field servers, two laptops, real processes.

    Example: tallystick demo
    """
    from tallystick.simulator.demo import play

    directory = data or Path(tempfile.mkdtemp(prefix="tallystick-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def tell(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    result: dict[str, Any] = {"directory": str(directory), "kept": keep}
    try:
        play(directory, tell, keep=keep)
    except Error as error:
        if as_json:
            print(json.dumps(problem_document(error)))
        print(f"{error.code}: {error}. {problem_for(error.code).next_step}", file=sys.stderr)
        print(f"The logs are in {directory}.", file=sys.stderr)
        raise typer.Exit(1) from None
    result["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        print(json.dumps(result))
    else:
        print(f"\nDone in {result['seconds']} s.")
    if not keep and data is None:
        shutil.rmtree(directory, ignore_errors=True)


@app.command()
def simulate(  # noqa: PLR0917 - options of a command line
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Run this seed alone, and tell its story.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Run so many seeds.")] = 200,
    first: Annotated[int, typer.Option("--first", min=0, help="The first of them.")] = 0,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Steps of each run, before it heals.")] = 150,
    field_servers: Annotated[
        int | None, typer.Option("--field-servers", min=1, max=20, help="Instead of a number drawn from the seed.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")] = 2,
    soak: Annotated[bool, typer.Option("--soak", help="Go on until stopped, or until a seed fails.")] = False,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Every interleaving of a small world instead of seeds.")
    ] = False,
    world: Annotated[
        str, typer.Option("--world", help="With --exhaustive: a small world, several with commas, all, or list.")
    ] = "standard",
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="With --exhaustive: events in a row.")] = None,
    max_states: Annotated[
        int | None, typer.Option("--max-states", min=1, help="With --exhaustive: stop after so many states.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=1, help="With --exhaustive: stop after so much processor time.")
    ] = None,
    cells: Annotated[
        bool, typer.Option("--cells", help="Print how often each cell of the decision table was reached.")
    ] = False,
    every_cell: Annotated[
        bool, typer.Option("--every-cell", help="Fail if a cell that can be reached was not.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search for a loss: seeded worlds with every fault of the protocol, and an auditor that shares no code with it.

    Example: tallystick simulate --seed 7 --steps 300
    """
    from tallystick.simulator import report, running
    from tallystick.simulator.cells import name_of

    progress = report.Progress()
    if exhaustive:
        from tallystick.simulator import exhaustive as exploration

        code = exploration.run(
            world,
            depth=depth,
            workers=workers,
            states_max=max_states,
            seconds_max=max_seconds,
            as_json=as_json,
            progress=progress,
        )
        raise typer.Exit(code)
    if seed is not None:
        result = running.run_seed(seed, steps=steps, field_servers=field_servers)
        summed = report.gather([result], progress, total=1)
        if result.failure is None and not as_json:
            print("\n".join(result.log))
    else:
        count = 1_000_000_000 if soak else seeds
        runs = running.run_seeds(
            range(first, first + count),
            steps=steps,
            field_servers=field_servers,
            workers=workers,
            stop_at_failure=soak,
        )
        summed = report.gather(runs, progress, total=None if soak else seeds)
    if as_json:
        print(summed.as_json())
    else:
        print("\n".join([*summed.lines(), *(summed.cell_lines() if cells else ())]))
        for failure in summed.failures[:3]:
            for line in report.failure_lines(failure, steps=steps, field_servers=field_servers, progress=progress):
                print(line)
        for failure in summed.failures[3:]:
            print(f"seed {failure.seed} breaks {failure.promise}: {failure.what}")
    missed = summed.missed() if every_cell else []
    if missed and not as_json:
        print(f"missed, of the cells of the decision table: {'; '.join(map(name_of, missed))}")
    if summed.failures or missed:
        raise typer.Exit(1)
