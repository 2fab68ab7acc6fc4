# shellcheck shell=sh
# What a node of a test begins with; sourced by those who have a root of their own. It installs $package, starts a registry at
# $registry, makes a key in a token, and has the layers of $image encrypted for it in $registry/hello:latest. Everything is in
# $place.
: "${package:?}" "${image:?}"
place=/srv/ocihsm
registry=127.0.0.1:5000
mkdir -p "$place/layout"
ip link set lo up

fail() {
    echo "FAILED: $*" >&2
    tail -n 40 "$place"/*.log >&2 || true
    exit 1
}

# What it waits for has an end of its own.
wait_for() {
    end=$(($(date +%s) + 180))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $end ] || fail "waited 180 s in vain for: $*"
        sleep 0.2
    done
}

dpkg -i "$package" >/dev/null
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %s}\n' \
    "$place" "$registry" >"$place/registry.yml"
docker-registry serve "$place/registry.yml" >"$place/registry.log" 2>&1 &

echo "-- an image that only a key in a token opens"
mkdir -p "$place/tokens"
printf 'directories.tokendir = %s/tokens\nlog.level = ERROR\n' "$place" >"$place/softhsm2.conf"
export SOFTHSM2_CONF="$place/softhsm2.conf"
softhsm2-util --init-token --free --label node --so-pin 8765-of-the-test --pin 4321-of-the-test >/dev/null
(umask 077 && echo 4321-of-the-test >"$place/pin")
(cd "$place" && ocihsm keys generate --module softhsm2 --token node --label imagekey --bits 2048 --pin-file "$place/pin" >/dev/null)
ocihsm config policy >/etc/ocicrypt.conf
tar -xf "$image" -C "$place/layout"
tag=$(sed -n 's/.*"org.opencontainers.image.ref.name":"\([^"]*\)".*/\1/p' "$place/layout/index.json")
ocihsm encrypt "oci:$place/layout:$tag" "oci:$place/encrypted:latest" --recipient "pkcs11:$place/imagekey.pub.pem"
wait_for timeout 60 skopeo copy --quiet --all --dest-tls-verify=false "oci:$place/encrypted:latest" "docker://$registry/hello:latest"
