#!/usr/bin/env bash
# From nothing to a container whose image only a key in a PKCS#11 token can open, in a minute: a SoftHSM token stands
# in for the HSM, and a private containerd for a node's. Run it as root on Debian or Ubuntu. It installs missing packages
# (and says which), builds ocihsm into target/, and otherwise leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

[ "$(id -u)" = 0 ] || { echo "run this as root: it starts a containerd" >&2; exit 1; }
command -v cargo >/dev/null || { echo "install Rust first, for example with rustup" >&2; exit 1; }

missing=()
for package in build-essential softhsm2 containerd runc busybox-static; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "Installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
fi

say "Building ocihsm"
cargo build --release --quiet
ocihsm=$PWD/target/release/ocihsm

# Everything below lives in here; containerd's mounts and processes in namespaces that end with the script.
dir=$(mktemp -d)
containerd=
clean_up() {
    [ -z "$containerd" ] || { kill -KILL "$containerd" && wait "$containerd"; } 2>/dev/null || true
    # Control groups are named after containerd's namespaces.
    find /sys/fs/cgroup -depth -type d \( -path '*/ocihsm-quickstart*' \) -exec rmdir {} + 2>/dev/null || true
    rm -rf --one-file-system "$dir"
}
trap clean_up EXIT

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

say "A small image: busybox, and one line to print"
# put FILE: moves it among the layout's blobs and prints its digest.
put() {
    local hash
    hash=$(sha256sum "$1" | cut -d ' ' -f 1)
    mv "$1" "$dir/plain/blobs/sha256/$hash"
    echo "sha256:$hash"
}
mkdir -p "$dir/plain/blobs/sha256" "$dir/rootfs/bin"
cp "$(command -v busybox)" "$dir/rootfs/bin/busybox"
ln -s busybox "$dir/rootfs/bin/echo"
tar -C "$dir/rootfs" --owner=0 --group=0 --numeric-owner -cf "$dir/layer.tar" .
diff_id=sha256:$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)
gzip -n "$dir/layer.tar"
layer_size=$(stat -c %s "$dir/layer.tar.gz")
layer=$(put "$dir/layer.tar.gz")
arch=$(dpkg --print-architecture)
printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/bin/echo","Hello from an encrypted image"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
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
"$ocihsm" config containerd --path "$ocihsm" --keys "$dir/keys" --policy internal >"$dir/ocihsm.toml"
unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    sh -c 'mount -t tmpfs tmpfs /run && containerd --config "$1" & wait $!' sh "$dir/config.toml" >"$dir/log" 2>&1 &
containerd=$!
# ctr NAMESPACE ARGUMENTS...: the plain client, where containerd runs.
ctr() {
    local namespace=ocihsm-quickstart-$1 init
    shift
    init=$(cat "/proc/$containerd/task/$containerd/children")
    nsenter --mount --pid --target "${init%% *}" ctr --address "$dir/containerd.sock" --namespace "$namespace" "$@"
}
for _ in $(seq 100); do
    ctr start version >/dev/null 2>&1 && break
    kill -0 "$containerd" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
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

say "Done; everything in $dir is removed now"
