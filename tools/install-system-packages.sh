#!/usr/bin/env bash
# Installs what `make powercuts` and the tests marked `postgres`, `softhsm`, `chromium`, `wapiti` and `foreign` need from Debian's packages, if it is not there already.
# With the argument `ha`: what `make ha` needs, instead.
set -euo pipefail

missing=()
if [ "${1:-}" = ha ]; then
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
    for program in etcd:etcd-server patroni:patroni haproxy:haproxy; do
        PATH="$PATH:/usr/sbin" command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
    done
    what="PostgreSQL, etcd, Patroni and HAProxy"
else
    what="PostgreSQL, SoftHSM2, Chromium, wapiti, strace and Go"
    compgen -G "/usr/lib/softhsm/libsofthsm2.so" >/dev/null || compgen -G "/usr/lib/*/softhsm/libsofthsm2.so" >/dev/null || missing+=(softhsm2)
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
    command -v wapiti >/dev/null || missing+=(wapiti)
    command -v strace >/dev/null || missing+=(strace)
    command -v go >/dev/null || missing+=(golang-go)
    [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ] || missing+=(golang-golang-x-mod-dev)
fi
if [ ${#missing[@]} -eq 0 ]; then
    echo "system packages: $what are there"
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
# Packages bring services; those that are new are wanted as programs only, so they are neither started now nor at the next start.
services=()
for package in "${missing[@]}"; do
    case $package in
    etcd-server) services+=(etcd) ;;
    patroni | haproxy) services+=("$package") ;;
    esac
done
if ! {
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" &&
        for service in "${services[@]}"; do
            if [ -d /run/systemd/system ]; then
                "${as_root[@]}" systemctl disable --now "$service" || true
            else
                "${as_root[@]}" update-rc.d "$service" disable || true
            fi
        done
} >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
