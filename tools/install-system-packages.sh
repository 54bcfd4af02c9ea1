#!/usr/bin/env bash
# Installs what `make powercuts` and the tests marked `postgres`, `softhsm`, `chromium`, `wapiti`, `foreign`, `clients` and `debian` need from Debian's packages, if it is not there already.
# With the argument `ha`: what `make ha` needs, instead.
set -euo pipefail

missing=()
foreign=()
if [ "${1:-}" = ha ]; then
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
    for program in etcd:etcd-server patroni:patroni haproxy:haproxy; do
        PATH="$PATH:/usr/sbin" command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
    done
    what="PostgreSQL, etcd, Patroni and HAProxy"
else
    what="PostgreSQL, SoftHSM2, Chromium, wapiti, strace, Go, nginx, Caddy, and the compilers and emulators for clients"
    for program in gcc g++ clang cmake pkg-config mandoc valgrind qemu-aarch64:qemu-user node:nodejs npm:npm \
        aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf; do
        command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
    done
    for program in nginx:nginx caddy:caddy systemd-analyze:systemd ip:iproute2; do
        PATH="$PATH:/usr/sbin" command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
    done
    [ ! -x /usr/bin/python3 ] || /usr/bin/python3 -c "import ensurepip" 2>/dev/null || missing+=(python3-venv)
    [ -e /usr/include/sodium.h ] || missing+=(libsodium-dev)
    [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing+=(libc6-dev-arm64-cross)
    [ -e /usr/arm-linux-gnueabihf/include/stdio.h ] || missing+=(libc6-dev-armhf-cross)
    # The fuzzer is in a package that bears the compiler's version: CLANG_RUNTIME is replaced by its name once that is known.
    compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a" >/dev/null || missing+=(CLANG_RUNTIME)
    # libsodium for other kinds of machines, unpacked and not installed: nothing of this machine changes.
    cross="${XDG_CACHE_HOME:-$HOME/.cache}/tallystick/cross"
    foreign=()
    for kind in arm64 armhf; do
        compgen -G "$cross/$kind/usr/lib/*/libsodium.a" >/dev/null || foreign+=("$kind")
    done
    compgen -G "/usr/lib/softhsm/libsofthsm2.so" >/dev/null || compgen -G "/usr/lib/*/softhsm/libsofthsm2.so" >/dev/null || missing+=(softhsm2)
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
    command -v wapiti >/dev/null || missing+=(wapiti)
    command -v strace >/dev/null || missing+=(strace)
    command -v go >/dev/null || missing+=(golang-go)
    [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ] || missing+=(golang-golang-x-mod-dev)
fi
if [ ${#missing[@]} -eq 0 ] && [ ${#foreign[@]} -eq 0 ]; then
    echo "system packages: $what are there"
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "system packages: please install ${missing[*]}${foreign[*]:+ and libsodium-dev for ${foreign[*]} in $cross}; there is no apt-get here to do it" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo --non-interactive)
fi
echo "system packages: installing ${missing[*]} ${foreign[*]/#/libsodium-dev:} with apt-get"
log=$(mktemp)
lists=$(mktemp -d)
trap 'rm -rf "$log" "$lists"' EXIT
fetch_foreign() {
    [ ${#foreign[@]} -gt 0 ] || return 0
    local options=(-q -o "APT::Architecture=${foreign[0]}" -o "Dir::State::Lists=$lists" -o "Dir::Cache=$lists" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
    local kind
    for kind in "${foreign[@]}"; do options+=(-o "APT::Architectures::=$kind"); done
    mkdir -p "$lists/partial" "$lists/archives/partial"
    apt-get "${options[@]}" update || true # one list that is late is no matter: what is fetched is checked by the lists that came
    for kind in "${foreign[@]}"; do
        (cd "$lists" && apt-get "${options[@]}" download "libsodium-dev:$kind" && mkdir -p "$cross/$kind" && dpkg-deb -x libsodium-dev_*_"$kind".deb "$cross/$kind") || return 1
    done
}
install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local place version
    for place in "${!missing[@]}"; do
        if [ "${missing[$place]}" = CLANG_RUNTIME ]; then
            version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
            missing[place]=libclang-rt-$version-dev
        fi
    done
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}
# Packages bring services; those that are new are wanted as programs only, so they are neither started now nor at the next start.
services=()
for package in "${missing[@]}"; do
    case $package in
    etcd-server) services+=(etcd) ;;
    patroni | haproxy | nginx | caddy) services+=("$package") ;;
    esac
done
if ! {
    "${as_root[@]}" apt-get update -q &&
        install_missing && fetch_foreign &&
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
