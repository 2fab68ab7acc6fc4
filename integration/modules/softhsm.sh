#!/usr/bin/env bash
# A SoftHSM token in a directory of its own.
#
# usage: softhsm.sh up DIR      makes token "kbs" with keys "rsa2048" and "other", prints how to reach it
#        softhsm.sh down DIR    nothing to stop; remove DIR
# PIN in the environment sets the user PIN. Packages: softhsm2 opensc. Any user may run this.
set -euo pipefail
[ "${1:-}" = up ] || exit 0
dir=$2 pin=${PIN:-12345678} module=/usr/lib/softhsm/libsofthsm2.so

mkdir -p "$dir/tokens"
cat >"$dir/softhsm2.conf" <<CONF
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
CONF
export SOFTHSM2_CONF=$dir/softhsm2.conf
softhsm2-util --init-token --free --label kbs --so-pin 87654321 --pin "$pin" >&2
for key in rsa2048:01 other:02; do
    pkcs11-tool --module "$module" --token-label kbs --login --pin "$pin" --keypairgen --key-type rsa:2048 \
        --label "${key%:*}" --id "${key#*:}" --usage-decrypt >&2
done

echo "module $module"
echo "env SOFTHSM2_CONF $SOFTHSM2_CONF"
