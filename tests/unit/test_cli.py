"""The root command, against small parties of our own making."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tallystick import __version__, cli

runner = CliRunner()


def party_module(monkeypatch, name, app):
    module: Any = ModuleType(name)
    module.app = app
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def fakes(monkeypatch):
    """Two parties that work, one whose package is missing, one that finds out only when its command runs."""
    greeter = typer.Typer()

    @greeter.command()
    def greet(name: str, *, loud: bool = False) -> None:
        typer.echo(f"hello {name}{'!' if loud else ''}")

    @greeter.command()
    def refuse() -> None:
        raise typer.Exit(4)

    single = typer.Typer()

    @single.command()
    def only() -> None:
        typer.echo("the only command")

    late = typer.Typer()

    @late.command()
    def start() -> None:
        import a_package_nobody_has  # type: ignore[import-not-found]  # noqa: F401 - nobody has it

    @late.command()
    def broken() -> None:
        import tallystick.no_such_module  # type: ignore[import-not-found]  # noqa: F401 - there is none

    party_module(monkeypatch, "fake_greeter", greeter)
    party_module(monkeypatch, "fake_single", single)
    party_module(monkeypatch, "fake_late", late)
    parties = {
        "demo": cli.Party(module="fake_greeter", command="greet", extra="all", summary="Greets."),
        "activation": cli.Party(module="fake_greeter", extra="activation", summary="Greets as a group."),
        "fieldserver": cli.Party(module="fake_single", extra="fieldserver", summary="Has one command."),
        "admin": cli.Party(module="a_package_nobody_has", extra="administrator", summary="Cannot be loaded."),
        "simulate": cli.Party(module="fake_late", extra="all", summary="Imports late."),
    }
    monkeypatch.setattr(cli, "PARTIES", parties)


@pytest.mark.usefixtures("fakes")
class TestParties:
    def test_a_party_is_a_group_under_its_name(self):
        result = runner.invoke(cli.app, ["activation", "greet", "Ada", "--loud"])
        assert (result.exit_code, result.stdout) == (0, "hello Ada!\n")

    def test_a_party_with_one_command_still_wants_its_name(self):
        result = runner.invoke(cli.app, ["fieldserver", "only"])
        assert (result.exit_code, result.stdout) == (0, "the only command\n")

    def test_one_command_of_a_party_can_stand_at_the_root(self):
        result = runner.invoke(cli.app, ["demo", "Ada"])
        assert (result.exit_code, result.stdout) == (0, "hello Ada\n")

    def test_exit_codes_come_through(self):
        assert runner.invoke(cli.app, ["activation", "refuse"]).exit_code == 4

    def test_wrong_usage_is_2(self):
        assert runner.invoke(cli.app, ["activation", "greet"]).exit_code == 2
        assert runner.invoke(cli.app, ["activation", "greet", "Ada", "--what"]).exit_code == 2

    def test_a_missing_package_names_the_extra(self):
        result = runner.invoke(cli.app, ["admin", "servers"])
        assert result.exit_code == 2
        assert "'a_package_nobody_has'" in result.stderr
        assert 'pip install "tallystick[administrator]"' in result.stderr

    def test_a_package_missed_only_when_the_command_runs_names_the_extra_too(self):
        result = runner.invoke(cli.app, ["simulate", "start"])
        assert result.exit_code == 2
        assert 'pip install "tallystick[all]"' in result.stderr

    def test_a_missing_module_of_our_own_is_a_bug_and_is_not_blamed_on_an_extra(self):
        result = runner.invoke(cli.app, ["simulate", "broken"])
        assert isinstance(result.exception, ModuleNotFoundError)

    def test_help_of_a_party_shows_its_own_commands(self):
        result = runner.invoke(cli.app, ["activation", "--help"])
        assert result.exit_code == 0
        assert "greet" in result.stdout
        assert "tallystick activation" in result.stdout

    def test_completion_knows_the_commands_of_a_party(self):
        assert "greet" in completions("tallystick activation ")

    def test_completion_of_a_party_that_cannot_be_loaded_is_empty_not_an_error(self):
        assert completions("tallystick admin ") == ""


def completions(line):
    environment = {"_TALLYSTICK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = runner.invoke(cli.app, [], prog_name="tallystick", env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_the_version_is_printed():
    result = runner.invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"tallystick {__version__}\n")


def test_an_unknown_command_is_wrong_usage_and_suggests():
    result = runner.invoke(cli.app, ["activaton"])
    assert result.exit_code == 2
    assert "activation" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_names_every_party(arguments):
    result = runner.invoke(cli.app, arguments)
    assert all(name in result.output for name in cli.PARTIES)


def test_help_imports_no_party_and_nothing_that_only_a_party_needs():
    script = (
        "import sys\n"
        "sys.argv = ['tallystick', '--help']\n"
        "from tallystick.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "ours = [name for name in sys.modules if name.count('.') and name.startswith('tallystick.')]\n"
        "heavy = {'fastapi', 'sqlalchemy', 'starlette', 'uvicorn', 'httpx2', 'cryptography', 'jinja2'}\n"
        "print(sorted(ours), sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == "['tallystick.cli', 'tallystick.errors', 'tallystick.sentences', 'tallystick.terminal'] []\n"


def test_the_version_is_the_one_of_the_distribution():
    from importlib.metadata import version

    assert version("tallystick") == __version__
