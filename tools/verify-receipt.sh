#!/usr/bin/env bash
# Checks Tallystick's receipts with the openssl command and nothing of Tallystick: docs/receipts.md, step by step.
#
#   tools/verify-receipt.sh KEYS.tally RECEIPT.tally ROOT_FINGERPRINT
#
# KEYS.tally holds the activation server's keyset (GET /v1/keys), RECEIPT.tally one or more grants, refusals, credits or
# entitlement certificates, one a line; lines that begin with # are passed over. ROOT_FINGERPRINT is what
# `tallystick activation init` printed. Prints what each receipt says; exit 0 only if every signature fits.
set -euo pipefail
export LC_ALL=C

[ $# -eq 3 ] || { echo "usage: $0 KEYS.tally RECEIPT.tally ROOT_FINGERPRINT" >&2; exit 2; }
case $(openssl version) in
    "OpenSSL "[3-9]*) ;;
    *) echo "OpenSSL 3 or later is needed; this is $(openssl version)" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "NOT VERIFIED: $*" >&2; exit 1; }

# base64url (RFC 4648, section 5), without padding.
decode() {
    local text=$1
    while [ $((${#text} % 4)) -ne 0 ]; do text=$text=; done
    printf '%s' "$text" | tr -- '-_' '+/' | openssl base64 -d -A
}
encode() { openssl base64 -A | tr -- '+/' '-_' | tr -d '='; }

# A key's thumbprint (RFC 7638): SHA-256 over its three members in the order of the alphabet, without spaces.
thumbprint() { printf '{"crv":"Ed25519","kty":"OKP","x":"%s"}' "$1" | openssl dgst -sha256 -binary | encode; }

# A JWK's x as a public key that openssl reads: the 12 bytes that say "Ed25519" (RFC 8410), then the 32 bytes of x.
public_key() {
    {
        echo "-----BEGIN PUBLIC KEY-----"
        { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'; decode "$1"; } | openssl base64 -A
        echo
        echo "-----END PUBLIC KEY-----"
    }
}

# check ENVELOPE X: is the third part a signature over the first two, by the key x?
check() {
    public_key "$2" >"$work/key.pem"
    printf '%s' "${1%.*}" >"$work/signed"
    decode "${1##*.}" >"$work/signature"
    openssl pkeyutl -verify -rawin -pubin -inkey "$work/key.pem" -in "$work/signed" -sigfile "$work/signature" >/dev/null 2>&1
}

header() { decode "${1%%.*}"; }
payload() { local rest=${1#*.}; decode "${rest%%.*}"; }
# member NAME: the value of a text member of the JSON on standard input; each name that is asked for stands there once.
member() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }
# envelopes FILE: without comments, blank lines, Windows line ends and byte order mark.
envelopes() { sed -e $'s/^\xef\xbb\xbf//' -e 's/[[:space:]]*$//' -e '/^#/d' -e '/^$/d' "$1"; }

# 1. The keyset: of the root whose fingerprint is known, and signed by it.
keyset=
while IFS= read -r envelope || [ -n "$envelope" ]; do
    case $(header "$envelope" | member typ) in tally-keys+jwt) keyset=$envelope ;; esac
done < <(envelopes "$1")
[ -n "$keyset" ] || fail "no keyset in $1"
root=$(payload "$keyset" | grep -o '"root":{[^}]*}' | member x)
[ "$(thumbprint "$root")" = "$3" ] || fail "the keyset is of root $(thumbprint "$root"), not $3"
check "$keyset" "$root" || fail "the keyset is not signed by its root"
echo "keyset: signed by root $3"

# 2. Each receipt: signed by the key of the keyset that its header names.
count=0
while IFS= read -r envelope || [ -n "$envelope" ]; do
    typ=$(header "$envelope" | member typ)
    kid=$(header "$envelope" | member kid)
    case $typ in
        tally-grant+jwt | tally-refusal+jwt | tally-credit+jwt | tally-entitlement+jwt) ;;
        *) continue ;;
    esac
    key=
    for x in $(payload "$keyset" | grep -o '"jwk":{[^}]*}' | member x); do
        [ "$(thumbprint "$x")" != "$kid" ] || key=$x
    done
    [ -n "$key" ] || fail "$typ: key $kid is not in the keyset"
    check "$envelope" "$key" || fail "$typ: the signature does not fit"
    count=$((count + 1))
    echo "$typ: signed by key $kid"
    echo "digest: $(printf '%s' "$envelope" | openssl dgst -sha256 -binary | encode)"
    payload "$envelope"
    echo
done < <(envelopes "$2")
[ "$count" -gt 0 ] || fail "no receipt in $2"
