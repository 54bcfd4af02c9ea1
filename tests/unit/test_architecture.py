"""What import contracts cannot say: which packages that are not ours each part may import, and where its tests stand.

A part that is not written yet passes; a file that nobody has placed fails.
"""

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import tallystick

SOURCE = Path(tallystick.__file__).parent
CHECKOUT = SOURCE.parents[1]
UNIT = Path(__file__).parent
WIRE = {"cryptography", "msgspec", "nacl"}
COMMAND_LINE = {"rich", "typer"}

# The longest name that a file's path begins with decides.
MAY_IMPORT = {
    "__init__.py": set(),
    "__main__.py": set(),
    "cli.py": COMMAND_LINE,
    "directories.py": set(),
    "errors.py": set(),
    "structs.py": {"msgspec"},
    "terminal.py": set(),
    "connections/": set(),
    "domain/": {"msgspec"},  # for its values, of which every message makes dozens: see decision 0019
    "protocol/": WIRE,
    "log/": {"nacl"},
    "pages/": {"jinja2", "markupsafe"},
    "pages/codes.py": {"markupsafe", "segno"},
    "pages/photo_process.py": {"PIL", "zxingcpp"},
    "activation/": WIRE,
    "activation/http/bodies.py": {"starlette"},
    "activation/http/protocol_api.py": {"fastapi", "msgspec", "starlette"},
    "activation/http/portal/": {"fastapi", "jinja2", "markupsafe", "segno", "starlette"},
    "activation/services/schemas.py": {"pydantic"},
    "activation/http/management/": {"fastapi", "pydantic", "starlette"},
    "activation/services/": set(),
    "activation/core/people.py": {"argon2", "pyotp", "zxcvbn"},
    "activation/core/permissions.py": set(),
    "activation/storage/": {"alembic", "msgspec", "psycopg", "sqlalchemy"},  # all SQL is here
    "activation/core/catalog_file.py": {"msgspec", "yaml"},
    "activation/core/entitlements.py": {"msgspec"},
    "activation/server/service.py": {"fastapi", "uvicorn"},
    "activation/http/fast_path.py": {"uvicorn"},
    "activation/keys/pkcs11.py": {"pkcs11"},
    "activation/http/metrics.py": {"prometheus_client"},
    "activation/http/monitoring.py": {"fastapi", "starlette"},
    "activation/cli.py": COMMAND_LINE,
    "activation/commands/": COMMAND_LINE,
    "sentences.py": set(),
    "fieldserver/": WIRE,
    "fieldserver/announce.py": {"zeroconf"},
    "fieldserver/api.py": {"msgspec", "starlette"},
    "fieldserver/route.py": {"httpx2"},
    "fieldserver/service.py": {"uvicorn"},
    "fieldserver/cli.py": COMMAND_LINE,
    "administrator/": WIRE,
    "administrator/network/clients.py": {"httpx2", "msgspec"},
    "administrator/app.py": {"keyring", "platformdirs"},
    "administrator/commands/console.py": COMMAND_LINE,
    "administrator/report/pdf.py": {"fpdf"},
    "administrator/web/": {"jinja2", "markupsafe", "msgspec", "starlette"},
    "administrator/web/app.py": {"starlette", "uvicorn"},
    "administrator/commands/": COMMAND_LINE | {"msgspec"},
    "administrator/network/discovery.py": {"zeroconf"},
    "administrator/cli.py": COMMAND_LINE | {"msgspec", "uvicorn"},
    "conformance/": WIRE,
    "conformance/cli.py": COMMAND_LINE,
    "simulator/crowd.py": {"starlette", "uvicorn"},
    "simulator/sql_store.py": {"sqlalchemy"},
    "simulator/": WIRE | COMMAND_LINE | {"httpx2"},
}
# Decisions wait for nobody.
WITHOUT_ASYNCIO = (
    "errors.py",
    "domain/",
    "protocol/",
    "log/",
    "activation/core/verification.py",
    "activation/core/books.py",
    "activation/core/reading.py",
    "activation/core/issuing.py",
    "activation/core/answering.py",
    "activation/core/batch.py",
    "activation/core/interventions.py",
    "fieldserver/checks.py",
    "fieldserver/codec.py",
    "fieldserver/engine.py",
    "fieldserver/state.py",
    "fieldserver/vault.py",
    "administrator/core/visit.py",
    "administrator/core/workflows.py",
)

FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def imported(file):
    for node in ast.walk(ast.parse((SOURCE / file).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("file", FILES)
def test_only_the_packages_of_its_part_are_imported(file):
    part = max((part for part in MAY_IMPORT if file.startswith(part)), key=len, default=None)
    assert part is not None, f"say in MAY_IMPORT what {file} may import"
    strangers = {name for name in imported(file) if name not in sys.stdlib_module_names} - {"tallystick"}
    assert strangers <= MAY_IMPORT[part]


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(WITHOUT_ASYNCIO)])
def test_no_asyncio_where_decisions_are_made(file):
    assert "asyncio" not in set(imported(file))


@pytest.mark.parametrize("file", FILES)
def test_imports_of_our_own_are_absolute(file):
    nodes = ast.walk(ast.parse((SOURCE / file).read_text("utf-8")))
    assert not [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level > 0]


# Tests of parts that are not in src stand at the same path as well: of a tool, of a page of the documentation.
ROOTS = {"tools": CHECKOUT / "tools", "docs": CHECKOUT / "docs"}
OF_THE_WHOLE = {"test_architecture.py"}
TESTS = sorted(path.relative_to(UNIT).as_posix() for path in UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("test", sorted(set(TESTS) - OF_THE_WHOLE))
def test_a_unit_test_stands_at_the_path_of_what_it_tests(test):
    first, *rest = Path(test).parent.parts or ("",)
    place = ROOTS[first].joinpath(*rest) if first in ROOTS else SOURCE / Path(test).parent
    assert place.is_dir(), f"there is no {place.relative_to(CHECKOUT)}"
    rooms = {path.stem.replace("-", "_") for path in place.iterdir() if not path.name.startswith("_")}
    rooms |= {path.name for path in place.iterdir() if path.is_dir()}
    said = Path(test).stem.removeprefix("test_")
    found = [room for room in rooms if said == room or said.startswith(f"{room}_")]
    assert found, f"test_<module>.py or test_<module>_<aspect>.py: {place.relative_to(CHECKOUT)} has no such module"


def test_what_helps_unit_tests_is_not_among_them():
    strangers = [path.relative_to(UNIT).as_posix() for path in UNIT.rglob("*.py") if not path.name.startswith("test_")]
    assert [path for path in strangers if not path.endswith("conftest.py")] == [], "tests/support is the place"


def test_no_class_overrides_a_private_name_of_somebody_elses():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in {"__main__.py", "env.py"}:  # programs, not to be imported
            continue
        words = [word for word in path.relative_to(SOURCE.parent).with_suffix("").parts if word != "__init__"]
        module = importlib.import_module(".".join(words))
        for one in vars(module).values():
            if not inspect.isclass(one) or one.__module__ != module.__name__:
                continue
            for base in one.__mro__[1:]:
                if base.__module__.startswith("tallystick") or base.__module__ in {"abc", "builtins", "enum", "typing"}:
                    continue
                private = {name for name in vars(base) if name.startswith("_") and not name.endswith("_")}
                found += [f"{one.__module__}.{one.__name__}.{name}" for name in private & vars(one).keys()]
    assert [name for name in found if not name.endswith(("._abc_impl", "._is_protocol"))] == []


def test_private_attributes_of_others_are_used_in_one_listed_place_only():
    """Decision 0035. Ruff finds every use; what is excused from it says that it is ours, or public all the same."""
    excused = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for line in path.read_text("utf-8").splitlines():
            _, found, reason = line.partition("# noqa: SLF001")
            if found and not any(word in reason for word in ("public name", "of its own class", "the same module")):
                excused.setdefault(path.relative_to(SOURCE).as_posix(), []).append(line.strip())
    assert {name: len(lines) for name, lines in excused.items()} == {"connections/calling.py": 2}


@pytest.mark.parametrize("file", FILES)
def test_a_module_has_one_reason_to_change_and_is_read_in_one_sitting(file):
    assert len((SOURCE / file).read_text("utf-8").splitlines()) <= 600
