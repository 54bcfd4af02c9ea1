"""``python -m mutation``: seed errors one by one, and let the proof look for each.

``make mutants-all`` judges all of them, in an order that follows from ``--sample-seed``. Results are lines of JSON in
``--results``; what is there already for the same code is not judged again, so a run can be stopped at any time, and what was
judged by then is a sample. Exit code 1: less than the threshold was found, or a survivor is not in the list of survivors.

``make mutants-sample`` is for every change: a sample of those that were found before (``found.txt``, which ``--write-found``
writes) must be found again, each first by who found it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mutation import judging
from mutation.applying import SOURCE, Live, NotAppliedError, put_in_at_import
from mutation.operators import Mutant, mutants_of
from mutation.report import read_survivors, table
from mutation.scope import MODULES, Module

ROOT: Final = Path(__file__).parents[2]
SEEDS: Final = 24  # for each mutant at most, beside worlds and walks
OTHERS: Final = (
    *("alembic.command", "alembic.migration", "cryptography.hazmat.primitives.kdf.hkdf", "msgspec", "nacl.bindings"),
    *("sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "typer", "z3"),
)
FOUND: Final = ROOT / "tools" / "mutation" / "found.txt"
STILL_THERE: Final = 0.7  # of those in the file; below, it is to be written anew
LOOKS_AT_IMPORT: Final = 10
THRESHOLD: Final = 95.0
MEMORY_BYTES: Final = 4 * 1024**3


def all_mutants() -> list[tuple[Mutant, Module]]:
    """Every mutant, in the order of modules and lines."""
    found = []
    for module in MODULES:
        _, mutants = mutants_of(module.file, (SOURCE / module.file).read_text("utf-8"))
        for mutant, _change in mutants:
            if _is_wanted(mutant, module):
                found.append((mutant, module))
    return found


def _is_wanted(mutant: Mutant, module: Module) -> bool:
    where = mutant.name.split(":", 2)[1]
    if module.only and not any(where == one or where.startswith(f"{one}.") for one in module.only):
        return False
    return not any(where == one or where.startswith(f"{one}.") for one in module.without)


def fingerprint(mutant: Mutant) -> str:
    """Changes with the module, so that an old result is not taken for one of new code."""
    text = (SOURCE / mutant.file).read_bytes()
    return hashlib.sha256(text).hexdigest()[:16]


class Judged:
    """Results, kept as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                self.rows[row["name"]] = row

    def has(self, mutant: Mutant) -> bool:
        """Whether this mutant of this code was judged."""
        row = self.rows.get(mutant.name)
        return row is not None and row["code"] == fingerprint(mutant)

    def add(self, row: dict[str, Any]) -> None:
        """One more."""
        self.rows[row["name"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def in_child(work: Any) -> dict[str, Any]:
    """What ``work`` returns, from a process of its own that may hang or break."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            with open(os.devnull, "w", encoding="utf-8") as nothing:  # noqa: PTH123 - nothing is to fail behind the limit
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
            said = work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = {"broken": f"{type(error).__name__}: {error}"[:300]}
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    said = json.loads(text) if text else {"found_by": "process", "what": "it died", "looks": 0}
    if "broken" in said:  # of this tool, not a find
        raise RuntimeError(said["broken"])
    return dict(said)


def judge_one(
    mutant: Mutant, wanted: Sequence[judging.Look], stories: dict[str, str], live: Live | None
) -> dict[str, Any]:
    """In a child. ``live``: where everything is imported already."""
    try:
        if live is None:
            put_in_at_import(mutant)
        else:
            live.put_in(mutant)
    except NotAppliedError:
        return {"found_by": "again"}
    found, count, differs = judging.judge(wanted, stories)
    what = found.what if found else ""
    return {"found_by": found.by if found else None, "what": what, "looks": count, "differs": differs}


def load_everything(judges: set[str]) -> None:
    """Import it, and remember the signatures of the seeds that come first."""
    for kind in sorted(judges):
        for one in judging.looks(kind, seeds=3)[:3]:
            found = judging.look(one)
            if found is not None:
                raise RuntimeError(f"{one.name} finds something in the code as it is: {found}")


def load_others() -> None:
    """What belongs to others is imported once."""
    for name in OTHERS:
        import_module(name)


def reached_lines(judges: str, seeds: int, cache: Path) -> tuple[dict[str, dict[str, list[int]]], dict[str, str]]:
    """Which look runs which lines, and what its story is; kept beside the results for the same code."""
    files = [module.file for module in MODULES if module.judges == judges]
    key = hashlib.sha256(
        json.dumps(
            [seeds, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(SOURCE.rglob("*.py")))]
        ).encode()
    ).hexdigest()[:16]
    place = cache / f"reached-{judges}-{key}.json"
    if not place.exists():
        wanted = [one for one in judging.looks(judges, seeds=seeds) if one.name.startswith("seed")]
        found = judging.trace(wanted, files)
        cache.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(found), "utf-8")
    lines, stories = json.loads(place.read_text("utf-8"))
    return lines, stories


def run(
    chosen: Sequence[tuple[Mutant, Module]], judged: Judged, *, seeds: int, guided: bool, until: float | None
) -> None:
    """Judge what was not judged."""
    open_ = [(mutant, module) for mutant, module in chosen if not judged.has(mutant)]
    load_others()

    def judge_all(some: Sequence[tuple[Mutant, Module]], live: Live | None) -> list[tuple[Mutant, Module]]:
        again = []
        for mutant, module in some:
            if until is not None and time.monotonic() > until:
                break
            wanted = judging.looks(module.judges, seeds=seeds)
            stories: dict[str, str] = {}
            if live is None:  # slow, and nobody knows who runs it: fewer
                wanted = wanted[:LOOKS_AT_IMPORT]
            elif guided:
                known, stories = reached_lines(module.judges, seeds, judged.path.parent)
                lines = {name: set(files.get(mutant.file, ())) for name, files in known.items()}
                wanted = judging.ordered(wanted, lines, mutant.line)
            begun = time.monotonic()
            said = in_child(lambda m=mutant, w=wanted, s=stories: judge_one(m, w, s, live))
            if said["found_by"] == "again":
                again.append((mutant, module))
                continue
            _keep(judged, mutant, said, time.monotonic() - begun, len(wanted))
        return again

    inside = [one for one in open_ if one[0].function]
    again = in_worker(inside, judge_all)  # this process imports nothing that an error may be in
    judge_all([*(one for one in open_ if not one[0].function), *again], None)


def in_worker(inside: Sequence[tuple[Mutant, Module]], judge_all: Any) -> list[tuple[Mutant, Module]]:
    """In a process that has everything imported; which mutants it could not put in."""
    if not inside:
        return []
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            load_everything({module.judges for _, module in inside})
            gc.collect()
            live = Live()
            gc.freeze()
            again = judge_all(inside, live)
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                json.dump([mutant.name for mutant, _ in again], pipe)
            status = 0
        except BaseException as error:  # noqa: BLE001 - told, and this process is over
            print(f"mutation: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit(1)
    names = set(json.loads(text))
    return [one for one in inside if one[0].name in names]


def _keep(judged: Judged, mutant: Mutant, said: dict[str, Any], seconds: float, looks: int) -> None:
    row = {
        "name": mutant.name,
        "file": mutant.file,
        "kind": mutant.kind,
        "line": mutant.line,
        "code": fingerprint(mutant),
        "seconds": round(seconds, 2),
        "of": looks,
        **said,
    }
    judged.add(row)
    where = said["found_by"] or ("NOT REACHED" if not looks else "SURVIVED")
    print(f"{where:18} {seconds:6.1f} s  {mutant.name}  [{mutant.line}]", flush=True)


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="mutation", description=__doc__)
    parser.add_argument("--sample", type=int, help="so many, drawn by --sample-seed")
    parser.add_argument("--sample-seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="begin no other mutant after so long")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", help="mutants whose name holds this")
    parser.add_argument("--unguided", action="store_true", help="do not trace which seeds run which lines first")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutation" / "results.jsonl")
    parser.add_argument("--found-before", action="store_true", help="of those in found.txt, each first by who found it")
    parser.add_argument("--write-found", action="store_true", help="write found.txt from --results, and judge none")
    parser.add_argument("--list", action="store_true", help="name them, and judge none")
    asked = parser.parse_args()
    everything = all_mutants()
    if asked.write_found:
        return write_found(everything, Judged(asked.results))
    if asked.found_before:
        return find_again(everything, asked)
    chosen = [one for one in everything if not asked.only or asked.only in one[0].name]
    random.Random(asked.sample_seed).shuffle(chosen)  # so that a run that is stopped is a sample, too
    chosen = chosen[: asked.sample]
    if asked.list:
        for mutant, _ in chosen:
            print(f"{mutant.name}  [{mutant.line}]")
        return 0
    begun = time.monotonic()
    judged = Judged(asked.results)
    with contextlib.suppress(KeyboardInterrupt):
        until = None if asked.seconds is None else begun + asked.seconds
        run(chosen, judged, seeds=asked.seeds, guided=not asked.unguided, until=until)
    judged = Judged(asked.results)  # the worker has added to it
    rows = [judged.rows[mutant.name] for mutant, _ in chosen if judged.has(mutant)]
    survivors = read_survivors(ROOT / "tools" / "mutation" / "survivors.txt")
    print("\n".join(table(rows, survivors, total=len(everything))))
    return 1 if is_failure(rows, survivors) else 0


def write_found(everything: Sequence[tuple[Mutant, Module]], judged: Judged) -> int:
    """Keep who found which mutant, in the order of the code."""
    rows = [judged.rows[mutant.name] for mutant, _ in everything if judged.has(mutant)]
    lines = [f"{row['found_by']}\t{row['name']}" for row in rows if row["found_by"]]
    FOUND.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(lines)} of {len(rows)}")
    return 0


def find_again(everything: Sequence[tuple[Mutant, Module]], asked: argparse.Namespace) -> int:
    """Those that were found before, or a sample of them. 1: one is not found any more, or most of them are gone."""
    before = dict(line.split("\t", 1)[::-1] for line in FOUND.read_text("utf-8").splitlines())
    known = [one for one in everything if one[0].name in before]
    chosen = random.Random(asked.sample_seed).sample(known, min(asked.sample or len(known), len(known)))
    judged = Judged(asked.results.with_name(f"again-{os.getpid()}.jsonl"))

    def looks(mutant: Mutant, module: Module) -> list[judging.Look]:
        wanted = judging.looks(module.judges, seeds=asked.seeds)
        return sorted(wanted, key=lambda one: one.name != before[mutant.name])

    try:
        load_others()
        inside = [one for one in chosen if one[0].function]
        again = in_worker(inside, lambda some, live: _judge_again(some, live, looks, judged))
        _judge_again([*(one for one in chosen if not one[0].function), *again], None, looks, judged)
        judged = Judged(judged.path)
    finally:
        judged.path.unlink(missing_ok=True)
    lost = [name for name, row in judged.rows.items() if row["found_by"] is None]
    print(
        f"{len(judged.rows) - len(lost)} of {len(judged.rows)} found again; {len(known)} of {len(before)} are still there"
    )
    for name in lost:
        print(f"not found any more: {name}")
    return 1 if lost or len(known) < len(before) * STILL_THERE else 0


def _judge_again(
    some: Sequence[tuple[Mutant, Module]], live: Live | None, looks: Any, judged: Judged
) -> list[tuple[Mutant, Module]]:
    again = []
    for mutant, module in some:
        begun = time.monotonic()
        wanted = looks(mutant, module)
        said = in_child(lambda m=mutant, w=wanted: judge_one(m, w, {}, live))
        if said["found_by"] == "again":
            again.append((mutant, module))
        else:
            _keep(judged, mutant, said, time.monotonic() - begun, len(wanted))
    return again


def is_failure(rows: Sequence[dict[str, Any]], survivors: dict[str, str]) -> bool:
    """A survivor without a reason, or too few found."""
    counted = [row for row in rows if not survivors.get(row["name"], "").startswith("same:")]
    found = sum(row["found_by"] is not None for row in counted)
    unknown = [row for row in rows if row["found_by"] is None and row["name"] not in survivors]
    for row in unknown:
        print(f"survived: {row['name']}  [{row['line']}]")
    return bool(unknown) or (bool(counted) and 100.0 * found / len(counted) < THRESHOLD)


if __name__ == "__main__":
    sys.exit(main())
