#!/usr/bin/env bash
# Writes requirements/*.txt: every package at one version, with the hashes of all its files, for every Python from
# 3.11 on and every platform. No index address is written, so the files work with any mirror. dev.txt comes first and
# binds the others, so that a version is the same wherever it appears; but lowest.txt, which has of everything that
# pyproject.toml names the lowest version that it allows.
# foreign.txt and generators.txt are for Pythons of their own: what checks us and is no part of us.
# Arguments are handed on to `uv pip compile` (--upgrade, --upgrade-package NAME).
set -euo pipefail
cd "$(dirname "$0")/.."

python=3.11
compile() { # compile OUTPUT INPUT-AND-OPTIONS...
    local output=$1
    shift
    "${UV:-.venv/bin/uv}" pip compile --quiet --no-config --universal --python-version "$python" --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements" \
        --output-file "requirements/$output.txt" "$@"
    echo "requirements/$output.txt: $(grep -c '^[a-z].*==' "requirements/$output.txt") packages"
}

compile dev pyproject.toml --extra dev "$@"
compile test pyproject.toml --extra test --constraint requirements/dev.txt
compile base pyproject.toml --extra all --constraint requirements/dev.txt
compile activation pyproject.toml --extra activation --extra postgres --extra photos --constraint requirements/dev.txt
compile administrator pyproject.toml --extra administrator --extra photos --constraint requirements/dev.txt
compile fieldserver pyproject.toml --extra fieldserver --extra announce --constraint requirements/dev.txt
compile build requirements/build.in --constraint requirements/dev.txt
compile lowest pyproject.toml --extra test --resolution lowest-direct --constraint requirements/build.txt
compile generators requirements/generators.in "$@"
python=3.12 compile foreign requirements/foreign.in "$@"
