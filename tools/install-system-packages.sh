#!/usr/bin/env bash
# Installs what the tests marked `postgres`, `softhsm`, `chromium` and `wapiti` need from Debian's packages, if it is not there already.
set -euo pipefail

missing=()
compgen -G "/usr/lib/softhsm/libsofthsm2.so" >/dev/null || compgen -G "/usr/lib/*/softhsm/libsofthsm2.so" >/dev/null || missing+=(softhsm2)
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
command -v wapiti >/dev/null || missing+=(wapiti)
if [ ${#missing[@]} -eq 0 ]; then
    echo "system packages: PostgreSQL, SoftHSM2, Chromium and wapiti are there"
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "system packages: please install ${missing[*]}; there is no apt-get here to do it" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo --non-interactive)
fi
echo "system packages: installing ${missing[*]} with apt-get"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! {
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
