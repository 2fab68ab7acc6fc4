#!/usr/bin/env bash
# Kryoptic, a software token in Rust, built once and cached.
#
# usage: kryoptic.sh up DIR      makes token "kbs" with keys "rsa2048" and "other", prints how to reach it
#        kryoptic.sh down DIR    nothing to stop; remove DIR
# PIN in the environment sets the user PIN. Packages: opensc, and to build it libclang-dev libssl-dev libsqlite3-dev
# pkg-config; and Rust. Any user may run this.
set -euo pipefail
[ "${1:-}" = up ] || exit 0
dir=$2 pin=${PIN:-12345678} version=1.5.4
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ocihsm-peers/kryoptic-$version
module=$cache/libkryoptic_pkcs11.so

if ! [ -e "$module" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock --timeout 1800 9 || { echo "somebody else builds Kryoptic, for 30 minutes now" >&2; exit 1; }
fi
if ! [ -e "$module" ]; then
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    # cargo fetches and checks the source as a dependency of an empty crate.
    mkdir -p "$build/fetch/src"
    touch "$build/fetch/src/lib.rs"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nkryoptic = { version = "=%s", default-features = false }\n' \
        "$version" >"$build/fetch/Cargo.toml"
    (cd "$build/fetch" && timeout --verbose --foreground 900 cargo vendor --quiet "$build/vendor" >/dev/null)
    cp -r "$build/vendor/kryoptic" "$build/kryoptic"
    (cd "$build/kryoptic" && CARGO_TARGET_DIR=$build/target timeout --verbose --foreground 1800 cargo build --quiet --release --no-default-features \
        --features minimal,kryoptic-lib/dynamic >&2)
    install "$build/target/release/libkryoptic_pkcs11.so" "$module.new"
    mv "$module.new" "$module"
fi

mkdir -p "$dir"
printf '[[slots]]\nslot = 1\ndbtype = "sqlite"\ndbargs = "%s/token.sql"\n' "$dir" >"$dir/kryoptic.conf"
export KRYOPTIC_CONF=$dir/kryoptic.conf
pkcs11-tool --module "$module" --slot-index 0 --init-token --label kbs --so-pin 87654321 >&2
pkcs11-tool --module "$module" --slot-index 0 --login --login-type so --so-pin 87654321 --init-pin --pin "$pin" >&2
for key in rsa2048:01 other:02; do
    pkcs11-tool --module "$module" --token-label kbs --login --pin "$pin" --keypairgen --key-type rsa:2048 \
        --label "${key%:*}" --id "${key#*:}" --usage-decrypt >&2
done

echo "module $module"
echo "env KRYOPTIC_CONF $KRYOPTIC_CONF"
