#!/bin/sh
# Runs in a root with dockerd, containerd, skopeo and a registry, and in network and process namespaces of its own.
#
# usage: docker.sh PACKAGE IMAGE
set -eu
package=$1 image=$2
. "$(dirname "$0")/node.sh"
# Overlays do not stand on overlays.
mkdir -p /var/lib/docker /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/docker
mount -t tmpfs tmpfs /var/lib/containerd

# start NAME OPTIONS...: a dockerd that says where it is.
docker_up() {
    dockerd --config-file "$place/$1.json" --host "unix://$place/$1.sock" --data-root "/var/lib/docker/$1" --exec-root "$place/$1.exec" \
        --pidfile "$place/$1.pid" >"$place/$1.log" 2>&1 &
    export DOCKER_HOST="unix://$place/$1.sock"
    wait_for timeout 10 docker version
}
docker_down() {
    kill "$(cat "$place/$1.pid")"
    wait_for test ! -e "$place/$1.pid"
}
options='"features": {"containerd-snapshotter": true}, "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false'
options="$options, \"cgroup-parent\": \"/ocihsm-docker\""
key=/etc/containerd/ocicrypt/keys/imagekey.yaml

pull() { timeout 120 docker pull --quiet "$registry/hello:latest" >"$place/pull" 2>&1; }
run() { timeout 120 docker run --rm --network none --entrypoint /bin/echo "$registry/hello:latest" "opened by $1"; }

echo "-- an external containerd, which imports the package's stream processors"
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\nimports = ["/etc/containerd/conf.d/*.toml"]\n[grpc]\naddress = "%s/containerd.sock"\n' \
    "$place" >/etc/containerd/config.toml
containerd >"$place/containerd.log" 2>&1 &
wait_for timeout 10 ctr --address "$place/containerd.sock" version
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
docker image rm -f "$registry/hello:latest" >/dev/null
update-alternatives --quiet --remove ctd-decoder /usr/bin/ocihsm
! pull || fail "it was pulled without the name ctd-decoder"
grep -q '"ctd-decoder": executable file not found' "$place/pull" || { cat "$place/pull"; fail "it failed in another way"; }
docker_down own
