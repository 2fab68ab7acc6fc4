#!/usr/bin/env bash
# From nothing to a container whose image only a key in a PKCS#11 token can open: a SoftHSM token stands in for the HSM,
# and a private containerd for a node's. Run it as root on Debian or Ubuntu; it takes about three minutes, nearly all of
# it the build. It installs missing programs (integration/packages says which, removes nothing and starts no service),
# builds ocihsm into target/ (unless OCIHSM_BIN names one), with crates that cargo downloads into ~/.cargo, and leaves
# nothing else behind.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

[ "$(id -u)" = 0 ] || { echo "run this as root: it starts a containerd" >&2; exit 1; }
command -v cargo >/dev/null || { echo "install Rust first, for example with rustup" >&2; exit 1; }

# Everything below lives in here; containerd's mounts and processes in namespaces that end with the script.
dir=$(mktemp -d)
containerd='' built=''
clean_up() {
    [ -z "$containerd" ] || { kill -KILL "$containerd" && wait "$containerd"; } 2>/dev/null || true
    # Control groups are named after containerd's namespaces.
    find /sys/fs/cgroup -depth -type d \( -path '*/ocihsm-quickstart*' \) -exec rmdir {} + 2>/dev/null || true
    installed=$(cat "$dir/installed" 2>/dev/null || true)
    if rm -rf --one-file-system "$dir"; then
        echo "$dir is removed."
    else
        echo "$dir could not be removed." >&2
    fi
    [ -z "$built" ] || echo "target/ stays, rm -r target removes it; so does what cargo downloaded, in ${CARGO_HOME:-~/.cargo}."
    [ -z "$installed" ] || echo "These packages stay, apt-get purge removes them:" $installed
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Programs that are needed"
echo "Missing ones are installed with apt-get, and stay."
[ -n "${OCIHSM_BIN:-}" ] || echo "So do target/, where ocihsm is built, and what cargo downloads, in ${CARGO_HOME:-~/.cargo}."
echo "All else is in $dir, and goes at the end."
./integration/packages --record "$dir/installed" cc=build-essential '/usr/lib/*/crt1.o=libc6-dev' \
    softhsm2-util=softhsm2 '/usr/lib/softhsm/libsofthsm2.so=libsofthsm2' containerd=containerd ctr=containerd runc=runc
echo "all there"

if [ -n "${OCIHSM_BIN:-}" ]; then
    ocihsm=$OCIHSM_BIN
else
    say "Building ocihsm; the first time takes some minutes"
    built=yes
    timeout --verbose --foreground --kill-after 10 3600 cargo build --release
    ocihsm=$PWD/target/release/ocihsm
fi

say "A token, and an RSA-3072 key that never leaves it"
mkdir "$dir/tokens" "$dir/keys"
cat >"$dir/softhsm2.conf" <<CONF
directories.tokendir = $dir/tokens
log.level = ERROR
CONF
export SOFTHSM2_CONF=$dir/softhsm2.conf
random() { od -A n -N 8 -t x1 /dev/urandom | tr -d ' '; }
(umask 077 && random >"$dir/pin")
softhsm2-util --init-token --free --label quickstart --so-pin "$(random)" --pin "$(cat "$dir/pin")" >/dev/null
mkdir -m 700 "$dir/run"
OCICRYPT_CONFIG=internal OCIHSM_RUNTIME_DIR=$dir/run \
    "$ocihsm" keys generate --token quickstart --label layers --module softhsm2 --pin-file "$dir/pin" --out "$dir"
mv "$dir/layers.yaml" "$dir/keys/"
cat "$dir/keys/layers.yaml"

say "A small image: one program that prints one line"
# put FILE: moves it among the layout's blobs and prints its digest.
put() {
    local hash
    hash=$(sha256sum "$1" | cut -d ' ' -f 1)
    mv "$1" "$dir/plain/blobs/sha256/$hash"
    echo "sha256:$hash"
}
mkdir -p "$dir/plain/blobs/sha256" "$dir/rootfs"
echo 'int puts(const char *); int main(void) { return puts("Hello from an encrypted image") < 0; }' |
    cc -static -x c -o "$dir/rootfs/hello" -
tar -C "$dir/rootfs" --owner=0 --group=0 --numeric-owner -cf "$dir/layer.tar" .
diff_id=sha256:$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)
gzip -n "$dir/layer.tar"
layer_size=$(stat -c %s "$dir/layer.tar.gz")
layer=$(put "$dir/layer.tar.gz")
arch=$(dpkg --print-architecture)
printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/hello"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
    "$arch" "$diff_id" >"$dir/config.json"
config_size=$(stat -c %s "$dir/config.json")
config=$(put "$dir/config.json")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%d}]}' \
    "$config" "$config_size" "$layer" "$layer_size" >"$dir/manifest.json"
manifest_size=$(stat -c %s "$dir/manifest.json")
manifest=$(put "$dir/manifest.json")
printf '{"imageLayoutVersion":"1.0.0"}' >"$dir/plain/oci-layout"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' \
    "$manifest" "$manifest_size" >"$dir/plain/index.json"
echo "$manifest"

say "Encrypting it to the token's public key"
"$ocihsm" encrypt "oci:$dir/plain:latest" "oci:$dir/encrypted:latest" --recipient "pkcs11:$dir/layers.pub.pem"
tar -C "$dir/encrypted" -cf "$dir/encrypted.tar" .

say "A private containerd that opens layers with ocihsm"
cat >"$dir/config.toml" <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
imports = ["$dir/ocihsm.toml"]
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/opt"
TOML
"$ocihsm" config containerd --path "$ocihsm" --key "$dir/keys" --policy internal >"$dir/ocihsm.toml"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    sh -c 'mount -t tmpfs tmpfs /run && containerd --config "$1" & wait $!' sh "$dir/config.toml" >"$dir/log" 2>&1 &
containerd=$!
# in_time SECONDS COMMAND...: fails with containerd's log where the command is not done by then.
in_time() {
    local status=0
    timeout --foreground --kill-after 5 "$@" || status=$? # in the foreground, since ctr asks the terminal
    [ $status -lt 124 ] || give_up "not done within $1 s: ${*:2}"
    return $status
}
give_up() {
    echo "$1; the end of containerd's log:" >&2
    tail -n 30 "$dir/log" >&2
    exit 1
}
# ctr NAMESPACE ARGUMENTS...: the plain client, where containerd runs.
ctr() {
    local namespace=ocihsm-quickstart-$1
    shift
    in_time 120 nsenter --mount --root --pid --target "$init" ctr --address "$dir/containerd.sock" --namespace "$namespace" "$@"
}
end=$((SECONDS + 60))
until [ -S "$dir/containerd.sock" ] && timeout 5 ctr --address "$dir/containerd.sock" version >/dev/null 2>&1; do
    kill -0 "$containerd" 2>/dev/null || give_up "containerd ended"
    [ $SECONDS -lt $end ] || give_up "containerd did not answer within 60 s"
    sleep 0.1
done
init=$(cat "/proc/$containerd/task/$containerd/children")
init=${init%% *}
containerd --version

say "Plain ctr imports the image and runs it"
ctr with-key images import --base-name quickstart.example/hello "$dir/encrypted.tar"
ctr with-key run --rm quickstart.example/hello:latest hello

say "Without the key file the same import fails"
rm "$dir/keys/layers.yaml"
if ctr without-key images import --base-name quickstart.example/hello "$dir/encrypted.tar"; then
    echo "the image was unpacked without its key" >&2
    exit 1
fi

say "Done"
