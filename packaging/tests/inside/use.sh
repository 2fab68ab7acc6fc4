#!/bin/sh
# Runs in a root where ocihsm and SoftHSM are installed: opens the test vectors, makes a key, encrypts and decrypts with it,
# and has doctor look at the node that was set up as the documentation says. Leaves what an operator would have made.
#
# usage: use.sh VECTORS MODULE [BITS]
set -eu
vectors=$1 module=$2 bits=${3:-2048}
place=$(mktemp -d)
token=/var/lib/ocihsm-token

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# The layers that a key has to open, as expected.json tells them: what is encrypted, and what comes of it.
layers_of() {
    awk -v image="$1" '
        index($0, "\"" image "\": {") { inside = 1 }
        inside && /"ciphertext"/ { split($2, part, "[:\"]"); cipher = part[3] }
        inside && /"plaintext_sha256"/ { split($2, part, "\""); print cipher, part[2] }
        inside && /^  }/ { exit }' "$vectors/expected.json"
}

echo "-- vectors"
mkdir -p "$token"
cp -r "$vectors/token" "$token/tokens"
printf 'directories.tokendir = %s\nlog.level = ERROR\n' "$token/tokens" >"$token/softhsm2.conf"
export SOFTHSM2_CONF=$token/softhsm2.conf
ocihsm config policy >/etc/ocicrypt.conf
for image in sha1-pubkey sha256-pubkey; do
    layers_of "$image" >"$place/layers"
    [ "$(wc -l <"$place/layers")" -ge 3 ] || fail "expected.json tells no layers of $image"
    while read -r cipher plain; do
        # As containerd's built-in stream processors start it.
        ctd-decoder --decryption-keys-path "$vectors/keys/rsa3072.yaml" --content-store "$vectors/images/$image" \
            <"$vectors/images/$image/blobs/sha256/$cipher" >"$place/layer"
        [ "$(digest "$place/layer")" = "$plain" ] || fail "layer $cipher of $image is not what was encrypted"
    done <"$place/layers"
done

echo "-- a key of its own"
(umask 077 && echo 4321-of-the-test >"$token/pin")
softhsm2-util --init-token --free --label packaged --so-pin 8765-of-the-test --pin 4321-of-the-test >/dev/null
(cd "$token" && ocihsm keys generate --module "$module" --token packaged --label imagekey --bits "$bits" --pin-file "$token/pin")
install -m 600 "$token/imagekey.yaml" /etc/containerd/ocicrypt/keys/
ocihsm encrypt "oci:$vectors/images/plain:latest" "oci:$place/encrypted:latest" --recipient "pkcs11:$token/imagekey.pub.pem"
ocihsm decrypt "oci:$place/encrypted:latest" "oci:$place/plain:latest" --key "$token/imagekey.yaml"
for blob in "$vectors"/images/plain/blobs/sha256/*; do
    [ -e "$place/plain/blobs/sha256/$(basename "$blob")" ] || fail "decrypting did not bring back $blob"
done

echo "-- doctor"
printf 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n' >"$place/config.toml"
ocihsm doctor --containerd-config "$place/config.toml" >"$place/doctor" 2>&1 || { cat "$place/doctor"; fail "doctor finds fault"; }
cat "$place/doctor"
rm -rf "$place"
