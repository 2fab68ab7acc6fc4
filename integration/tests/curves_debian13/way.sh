#!/bin/sh
# usage: way.sh OCIHSM IMAGE PLACE MODULE
# Runs in a root of Debian 13, as root, in namespaces that end with it: sets a token up behind MODULE (opencryptoki, tpm2,
# p11-kit), and for each curve makes a key, encrypts to it and decrypts with it. Prints "opened CURVE" for each, and
# "left CURVE N" where N objects more are in the token than before.
set -eu
ocihsm=$1 image=$2 place=$3 name=$4
pin=12345678
mkdir -p "$place"
cd "$place"
mount -t tmpfs tmpfs /dev/shm
library=$(ls /usr/lib/*/pkcs11/"$(case $name in opencryptoki) echo libopencryptoki.so ;; tpm2) echo libtpm2_pkcs11.so ;; p11-kit) echo p11-kit-client.so ;; esac)")
case $name in
opencryptoki)
    printf 'version opencryptoki-3.23\nslot 0\n{\nstdll = libpkcs11_sw.so\ntokversion = 3.12\n}\n' >/etc/opencryptoki/opencryptoki.conf
    mount -t tmpfs tmpfs /var/lib/opencryptoki
    mkdir -p /run/opencryptoki /run/lock/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
    chown -R pkcsslotd:pkcs11 /run/opencryptoki /run/lock/opencryptoki /var/lib/opencryptoki
    chmod -R 0770 /run/opencryptoki /run/lock/opencryptoki /var/lib/opencryptoki
    /usr/sbin/pkcsslotd
    printf 'kbs\n' | pkcsconf -I -c 0 -S 87654321
    pkcsconf -P -c 0 -S 87654321 -n 76543210
    pkcsconf -u -c 0 -S 76543210 -n $pin
    ;;
tpm2)
    mkdir state store
    swtpm socket --tpm2 --tpmstate dir="$place/state" --server type=unixio,path="$place/tpm" \
        --ctrl type=unixio,path="$place/tpm.ctrl" --flags not-need-init,startup-clear --daemon
    export TPM2_PKCS11_STORE="$place/store" TPM2_PKCS11_TCTI="swtpm:path=$place/tpm"
    pkcs11-tool --module "$library" --slot-index 0 --init-token --label kbs --so-pin 87654321
    pkcs11-tool --module "$library" --slot-index 0 --login --login-type so --so-pin 87654321 --init-pin --pin $pin
    ;;
p11-kit)
    mkdir tokens
    printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\n' "$place" >softhsm2.conf
    export SOFTHSM2_CONF="$place/softhsm2.conf"
    softhsm2-util --init-token --free --label kbs --so-pin 87654321 --pin $pin
    p11-kit server --name "$place/socket" --provider /usr/lib/softhsm/libsofthsm2.so pkcs11:token=kbs >server
    export P11_KIT_SERVER_ADDRESS="unix:path=$place/socket"
    ;;
esac >&2
printf 'pkcs11:\n  module-directories: [%s]\n  allowed-module-paths: [%s]\n' "$(dirname "$library")" "$library" >ocicrypt.conf
export OCICRYPT_CONFIG="$place/ocicrypt.conf" OCIHSM_RUNTIME_DIR="$place/run"
printf %s $pin >pin
objects() {
    pkcs11-tool --module "$library" --token-label kbs --login --pin $pin --list-objects 2>/dev/null | grep -c ' Object'
}
for curve in p256 p384 p521; do
    "$ocihsm" keys generate --token kbs --label $curve --type $curve --pin-file pin --out . >&2 || continue
    "$ocihsm" encrypt "oci:$image" "oci:$place/encrypted-$curve" --recipient "jwe:$curve.pub.pem" >&2
    before=$(objects)
    if "$ocihsm" decrypt "oci:$place/encrypted-$curve" "oci:$place/again-$curve" --key $curve.yaml >&2; then
        echo "opened $curve"
    fi
    echo "left $curve $(($(objects) - before))"
done
"$ocihsm" keys list --token kbs --pin-file pin
