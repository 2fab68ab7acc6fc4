#!/bin/sh
# Runs in a root with dockerd, containerd, skopeo and a registry, and in network and process namespaces of its own.
#
# usage: docker.sh PACKAGE IMAGE
set -eu
package=$1 image=$2
place=/srv/ocihsm
mkdir -p "$place/layout"
# Overlays do not stand on overlays.
mount -t tmpfs tmpfs /var/lib/docker 2>/dev/null || { mkdir -p /var/lib/docker && mount -t tmpfs tmpfs /var/lib/docker; }
mkdir -p /var/lib/containerd && mount -t tmpfs tmpfs /var/lib/containerd
ip link set lo up

fail() {
    echo "FAILED: $*" >&2
    tail -n 30 "$place"/*.log >&2 || true
    exit 1
}

wait_for() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    fail "waited in vain for: $*"
}

dpkg -i "$package" >/dev/null
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: 127.0.0.1:5000}\n' \
    "$place" >"$place/registry.yml"
docker-registry serve "$place/registry.yml" >"$place/registry.log" 2>&1 &

echo "-- an image that only a key in a token opens"
mkdir -p "$place/tokens"
printf 'directories.tokendir = %s/tokens\nlog.level = ERROR\n' "$place" >"$place/softhsm2.conf"
export SOFTHSM2_CONF="$place/softhsm2.conf"
softhsm2-util --init-token --free --label docker --so-pin 8765-of-the-test --pin 4321-of-the-test >/dev/null
(umask 077 && echo 4321-of-the-test >"$place/pin")
(cd "$place" && ocihsm keys generate --module softhsm2 --token docker --label imagekey --bits 2048 --pin-file "$place/pin" >/dev/null)
ocihsm config policy >/etc/ocicrypt.conf
tar -xf "$image" -C "$place/layout"
tag=$(sed -n 's/.*"org.opencontainers.image.ref.name":"\([^"]*\)".*/\1/p' "$place/layout/index.json")
ocihsm encrypt "oci:$place/layout:$tag" "oci:$place/encrypted:latest" --recipient "pkcs11:$place/imagekey.pub.pem"
wait_for skopeo copy --quiet --all --dest-tls-verify=false "oci:$place/encrypted:latest" docker://127.0.0.1:5000/hello:latest

# start NAME OPTIONS...: a dockerd that says where it is.
docker_up() {
    dockerd --config-file "$place/$1.json" --host "unix://$place/$1.sock" --data-root "/var/lib/docker/$1" --exec-root "$place/$1.exec" \
        --pidfile "$place/$1.pid" >"$place/$1.log" 2>&1 &
    export DOCKER_HOST="unix://$place/$1.sock"
    wait_for docker version
}
docker_down() {
    kill "$(cat "$place/$1.pid")"
    for _ in $(seq 100); do [ -e "$place/$1.pid" ] || break; sleep 0.2; done
}
options='"features": {"containerd-snapshotter": true}, "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false'
options="$options, \"cgroup-parent\": \"/ocihsm-docker\""
key=/etc/containerd/ocicrypt/keys/imagekey.yaml

pull() { docker pull --quiet 127.0.0.1:5000/hello:latest >"$place/pull" 2>&1; }
run() { docker run --rm --network none --entrypoint /bin/echo 127.0.0.1:5000/hello:latest "opened by $1"; }

echo "-- an external containerd, which imports the package's stream processors"
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\nimports = ["/etc/containerd/conf.d/*.toml"]\n[grpc]\naddress = "%s/containerd.sock"\n' \
    "$place" >/etc/containerd/config.toml
containerd >"$place/containerd.log" 2>&1 &
wait_for ctr --address "$place/containerd.sock" version
echo "{$options, \"containerd\": \"$place/containerd.sock\"}" >"$place/external.json"
docker_up external
docker version --format 'dockerd {{.Server.Version}}'
containerd --version
! pull || fail "it was pulled without the key"
grep -q 'ocihsm: error: ' "$place/pull" || { cat "$place/pull"; fail "the reason is not told"; }
cat "$place/pull"
install -m 600 "$place/imagekey.yaml" "$key"
pull || { cat "$place/pull"; fail "it was not pulled"; }
run "an external containerd"
docker_down external

echo "-- the containerd that dockerd starts by itself"
mv "$key" "$place/away.yaml"
echo "{$options}" >"$place/own.json"
docker_up own
! pull || fail "it was pulled without the key"
grep -q 'ocihsm: error: ' "$place/pull" || { cat "$place/pull"; fail "the reason is not told"; }
mv "$place/away.yaml" "$key"
pull || { cat "$place/pull"; fail "it was not pulled"; }
run "a containerd of dockerd's own, by the name ctd-decoder"
docker image rm -f 127.0.0.1:5000/hello:latest >/dev/null
update-alternatives --quiet --remove ctd-decoder /usr/bin/ocihsm
! pull || fail "it was pulled without the name ctd-decoder"
grep -q '"ctd-decoder": executable file not found' "$place/pull" || { cat "$place/pull"; fail "it failed in another way"; }
docker_down own
