"""The C library: every vector on every compiler and machine, what sanitizers, valgrind and a fuzzer see, and how large it is."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from support.clients import FUZZED, MACHINES, SANITIZED, C, compile_c, cross_compile, run
from tallystick.conformance import client, vectors

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("clients")]
SOURCES = ("tallystick.c", "tests/vectors.c")
FUZZ_RUNS = 30_000  # runs and not seconds: a slow machine tries as many


def wrong(program, chosen=None) -> list[str]:
    outcomes = list(client.run([str(part) for part in program], chosen or vectors.load(), "fields"))
    assert len(outcomes) == len(chosen or vectors.load()) > 30
    return [f"{outcome.vector.name}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_vector_is_decided_as_it_must_be(compiler, tmp_path):
    assert wrong([compile_c(compiler, tmp_path / "vectors", *SOURCES)]) == []


def test_neither_vectors_nor_misuse_make_a_sanitizer_speak(tmp_path):
    library = compile_c("clang", tmp_path / "tallystick.o", "tallystick.c", flags=(*SANITIZED, "-c"), links=())
    programs = [
        compile_c("clang", tmp_path / name, f"tests/{name}.c", flags=SANITIZED, links=(str(library), "-lsodium"))
        for name in ("vectors", "misuse")
    ]
    assert wrong([programs[0]]) == []
    assert run([str(programs[1])]) == "ok\n"


def test_valgrind_finds_nothing(tmp_path):
    program = compile_c("gcc", tmp_path / "vectors", *SOURCES, flags=("-O1", "-g"))
    log = tmp_path / "valgrind.txt"
    checker = ["valgrind", "--quiet", "--leak-check=full", "--error-exitcode=9", f"--log-file={log}"]
    # Of what is only refused for its form, every sixth: the same code with other bytes.
    every = vectors.load()
    chosen = [one for place, one in enumerate(every) if not one.name.startswith("malformed-") or place % 6 == 0]
    chosen = [one for one in chosen if one.kind != "socket"]  # their deadlines are short, and valgrind is slow
    assert wrong([*checker, program], chosen) == []
    assert log.read_text() == ""


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_every_vector_is_decided_as_it_must_be_on_arm(machine, tmp_path):
    chosen = [
        one for one in vectors.load() if one.name != "socket-silent-body"
    ]  # one of them is enough under an emulator
    assert wrong(cross_compile(machine, tmp_path / "vectors", *SOURCES), chosen) == []


def test_a_fuzzer_finds_nothing_in_a_bounded_number_of_runs(tmp_path):
    fuzzer = compile_c("clang", tmp_path / "fuzz", "tests/fuzz.c", flags=FUZZED)
    corpus = C / "tests" / "corpus"
    assert len(list(corpus.iterdir())) > 100
    found = tmp_path / "found"
    found.mkdir()
    limits = [
        f"-runs={FUZZ_RUNS}",
        "-max_len=4096",
        "-timeout=120",
        "-print_final_stats=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run([fuzzer, *limits, found, corpus], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) >= FUZZ_RUNS


def test_the_library_is_small_and_asks_for_no_memory(tmp_path):
    library = tmp_path / "tallystick.o"
    run(["gcc", "-std=c99", "-Os", "-c", str(C / "tallystick.c"), "-o", str(library)])
    text, data, zeros = map(int, run(["size", str(library)]).splitlines()[1].split()[:3])
    assert text < 32 * 1024  # the promise is 100 KB
    assert (data, zeros) == (0, 0), "no global state"
    symbols = {line.split()[-1].split("@")[0] for line in run(["nm", "--undefined-only", str(library)]).splitlines()}
    assert not symbols & {"malloc", "calloc", "realloc", "free", "strdup", "abort", "exit", "signal", "sodium_init"}
    exported = {line.split()[-1] for line in run(["nm", "--defined-only", "--extern-only", str(library)]).splitlines()}
    assert all(name.startswith("tallystick_") for name in exported)


def test_what_was_promised_for_version_1_is_there(tmp_path):
    """Ten years: a function that is in this list stays. New ones are added to it."""
    declared = set(re.findall(r"\b(tallystick_\w+)\(", (C / "tallystick.h").read_text()))
    assert declared == {
        "tallystick_activated", "tallystick_add_root", "tallystick_check", "tallystick_code", "tallystick_expires",
        "tallystick_get_memory", "tallystick_init", "tallystick_judge", "tallystick_question", "tallystick_set_deadline",
        "tallystick_set_memory", "tallystick_size", "tallystick_verify", "tallystick_version",
    }  # fmt: skip
    manual = (C / "tallystick.3").read_text()
    assert [name for name in sorted(declared) if name not in manual] == []
    run(["mandoc", "-T", "lint", "-W", "warning", str(C / "tallystick.3")])
    codes = {vector.result for vector in vectors.load()}
    assert [code for code in sorted(codes) if code not in manual] == []


def test_it_is_built_and_found_by_cmake_and_pkg_config(tmp_path):
    prefix, build = tmp_path / "prefix", tmp_path / "build"
    run(
        [
            "cmake",
            "-S",
            str(C),
            "-B",
            str(build),
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            "-DCMAKE_INSTALL_LIBDIR=lib",
            "-DBUILD_SHARED_LIBS=ON",
        ]
    )
    run(["cmake", "--build", str(build)])
    run(["cmake", "--install", str(build)])
    (found,) = prefix.rglob("tallystick.pc")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "tallystick"],
        env={"PKG_CONFIG_PATH": str(found.parent), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    example = tmp_path / "licensed"
    run(
        [
            "gcc",
            "-std=c99",
            str(C / "example" / "licensed.c"),
            "-o",
            str(example),
            *flags,
            f"-Wl,-rpath,{prefix / 'lib'}",
        ]
    )
    said = subprocess.run(
        [example, "/nowhere.sock", "A" * 43, "mqtt-client"], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (1, "mqtt-client: not licensed: agent-absent\n")
    assert (prefix / "share" / "man" / "man3" / "tallystick.3").exists()
    version = re.search(r'TALLYSTICK_VERSION "(.+)"', (C / "tallystick.h").read_text())[1]
    assert f"Version: {version}\n" in found.read_text()
    assert (prefix / "lib" / f"libtallystick.so.{version}").exists()


def test_the_header_is_read_by_a_cpp_compiler_too(tmp_path):
    source = tmp_path / "cpp.cpp"
    source.write_text('#include "tallystick.h"\nint main() { return tallystick_size() > TALLYSTICK_STORAGE_BYTES; }\n')
    library = tmp_path / "tallystick.o"
    run(["gcc", "-std=c99", "-c", str(C / "tallystick.c"), "-o", str(library)])
    run(["g++", "-Wall", "-Werror", f"-I{C}", str(source), str(library), "-lsodium", "-o", str(tmp_path / "cpp")])
    run([str(tmp_path / "cpp")])


MUTANTS = {
    "root not compared": ("if (strcmp(print, t->roots[root]) == 0)", "if (root < 99)"),
    "signature of the grant not looked at": ("|| envelope_fits(&grant->envelope, key->x));", "|| 1);"),
    "expiry by one": ("if (!is_endless && expires <= tally->moment)", "if (!is_endless && expires < tally->moment)"),
    "names may stand twice": ("        if (text_equal(name, other))\n            return 0;", "        (void)other;"),
    "unused bits": ("if ((bits & ((1ul << held) - 1)) != 0)", "if (0)"),
    "sum wraps": ("count > INTEGER_MAX - tally->activated ? INTEGER_MAX :", "0 ? 0 :"),
    "older grants are taken": ("return OLDER_GRANT;", ";"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_library_that_is_made_wrong_is_found_by_the_vectors(mutant, tmp_path):
    old, new = MUTANTS[mutant]
    source = (C / "tallystick.c").read_text()
    assert source.count(old) == 1
    shutil.copy(C / "tallystick.h", tmp_path)
    (tmp_path / "tallystick.c").write_text(source.replace(old, new))
    program = tmp_path / "vectors"
    run(
        [
            "gcc",
            "-O1",
            f"-I{tmp_path}",
            str(tmp_path / "tallystick.c"),
            str(C / "tests" / "vectors.c"),
            "-lsodium",
            "-o",
            str(program),
        ]
    )
    chosen = [one for one in vectors.load() if one.kind != "socket"]
    assert wrong([program], chosen) != []
