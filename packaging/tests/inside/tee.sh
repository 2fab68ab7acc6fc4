#!/bin/sh
# Opens the test vectors through a module with the ways of OP-TEE's: it answers no question for a length, and a TEE without
# OAEP does not know that mechanism. unruly.c plays it, in front of SoftHSM.
#
# usage: tee.sh VECTORS UNRULY
set -eu
vectors=$1 unruly=$2
place=$(mktemp -d)
cp -r "$vectors/token" "$place/tokens"
printf 'directories.tokendir = %s\nlog.level = ERROR\n' "$place/tokens" >"$place/softhsm2.conf"
softhsm=$(find /usr/lib -name libsofthsm2.so | head -n 1)
printf 'pkcs11:\n  module-directories:\n    - %s/\n  allowed-module-paths:\n    - %s\n' "$(dirname "$unruly")" "$unruly" >"$place/policy"
export OCICRYPT_CONFIG="$place/policy"
for quirks in no-length-query no-length-query,no-oaep; do
    sed "s|module-name=softhsm2|module-path=$unruly|" "$vectors/keys/rsa3072.yaml" >"$place/key.yaml"
    cat >>"$place/key.yaml" <<YAML
module:
  env:
    SOFTHSM2_CONF: $place/softhsm2.conf
    UNRULY_MODULE: $softhsm
    UNRULY_LOG: $place/log
    UNRULY_QUIRKS: $quirks
YAML
    for image in sha1-pubkey sha256-pubkey; do
        rm -rf "$place/plain" "$place/log"
        ocihsm decrypt "oci:$vectors/images/$image:latest" "oci:$place/plain:latest" --key "$place/key.yaml"
        grep -q '^C_Decrypt$' "$place/log" || { echo "FAILED: the module was not asked" >&2; exit 1; }
        echo "opened $image with $quirks: $(grep -c '^C_Decrypt$' "$place/log") times C_Decrypt"
    done
done
rm -rf "$place"
