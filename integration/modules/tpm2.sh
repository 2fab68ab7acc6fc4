#!/usr/bin/env bash
# A TPM 2.0 token: tpm2-pkcs11 on a software TPM (swtpm) that listens on a socket in a directory of its own.
#
# usage: tpm2.sh up DIR      makes token "kbs" with keys "rsa2048" and "other", prints how to reach it
#        tpm2.sh down DIR    ends swtpm
# PIN in the environment sets the user PIN. Packages: libtpm2-pkcs11-1 swtpm opensc. Any user may run this.
#
# With a TPM of your own, leave swtpm out and set TPM2_PKCS11_TCTI=device:/dev/tpmrm0. swtpm serves one connection at a
# time; a real TPM has its resource manager in the kernel.
set -euo pipefail
dir=${2:?usage: tpm2.sh up|down DIR} pin=${PIN:-12345678}
module=$(ls /usr/lib/*/pkcs11/libtpm2_pkcs11.so | head -n 1)

case ${1:-} in
up)
    mkdir -p "$dir/state" "$dir/store"
    swtpm socket --tpm2 --tpmstate dir="$dir/state" --server type=unixio,path="$dir/tpm" \
        --ctrl type=unixio,path="$dir/tpm.ctrl" --flags not-need-init,startup-clear --daemon --pid file="$dir/pid" >&2
    export TPM2_PKCS11_TCTI=swtpm:path=$dir/tpm TPM2_PKCS11_STORE=$dir/store TSS2_LOG=all+none
    pkcs11-tool --module "$module" --slot-index 0 --init-token --label kbs --so-pin 87654321 >&2
    pkcs11-tool --module "$module" --token-label kbs --login --login-type so --so-pin 87654321 --init-pin --pin "$pin" >&2
    for key in rsa2048:01 other:02; do
        pkcs11-tool --module "$module" --token-label kbs --login --pin "$pin" --keypairgen --key-type rsa:2048 \
            --label "${key%:*}" --id "${key#*:}" >&2
    done
    echo "module $module"
    echo "env TPM2_PKCS11_TCTI $TPM2_PKCS11_TCTI"
    echo "env TPM2_PKCS11_STORE $TPM2_PKCS11_STORE"
    ;;
down)
    kill "$(cat "$dir/pid")" 2>/dev/null || true
    ;;
esac
