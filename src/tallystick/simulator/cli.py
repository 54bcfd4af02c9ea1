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
from tallystick.protocol.problems import problem_for

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
