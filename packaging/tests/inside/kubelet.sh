#!/bin/sh
# Runs in a root with containerd, skopeo and a registry, and in network and process namespaces of its own: a kubelet without
# a cluster, and a static pod whose image is encrypted. Without the key the pod's status tells why; with it the pod runs.
#
# usage: kubelet.sh PACKAGE IMAGE KUBELET
set -eu
package=$1 image=$2 kubelet=$3
. "$(dirname "$0")/node.sh"
# Overlays do not stand on overlays.
mkdir -p "$place/pods" /var/lib/containerd /var/lib/kubelet
mount -t tmpfs tmpfs /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/kubelet

echo "-- the image of a pod's first container, which has to wait"
# The same layer, plain, would be unpacked by it, and then no key is asked for.
layer=$(skopeo inspect --format '{{index .Layers 0}}' "oci:$place/layout:$tag")
mkdir -p "$place/shell" "$place/pause"
tar -xf "$place/layout/blobs/sha256/${layer#sha256:}" -C "$place/shell" bin/busybox bin/sleep
tar -cf "$place/layer" -C "$place/shell" bin
digest=$(sha256sum <"$place/layer" | cut -d ' ' -f 1)
printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/sleep","1000000"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$digest" >"$place/config"
blob() {
    digest=$(sha256sum <"$place/$1" | cut -d ' ' -f 1)
    mv "$place/$1" "$place/pause/$digest"
    printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' "$2" "$digest" "$(stat -c %s "$place/pause/$digest")"
}
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
    "$(blob config config.v1+json)" "$(blob layer layer.v1.tar)" >"$place/pause/manifest.json"
timeout 60 skopeo copy --quiet --dest-tls-verify=false "dir:$place/pause" "docker://$registry/pause:latest"

cat >/etc/containerd/config.toml <<TOML
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$registry/pause:latest"
  disable_apparmor = true
  # Where root has no CAP_SYS_RESOURCE, runc could not give a pause container its -998.
  restrict_oom_score_adj = true
TOML
containerd --version
containerd >"$place/containerd.log" 2>&1 &
wait_for timeout 10 ctr version

cat >"$place/pod.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: hello
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
    - name: hello
      image: $registry/hello:latest
      imagePullPolicy: Always
      command: [/bin/echo, opened for a kubelet]
YAML
# It sets these for the whole machine, unless it finds them so.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
    kernel/keys/root_maxbytes=25000000; do
    file=$place/sysctl/${setting%=*}
    mkdir -p "$(dirname "$file")"
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
done
"$kubelet" --version
"$kubelet" --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
    --pod-manifest-path="$place/pods" --hostname-override=node --address=127.0.0.1 --read-only-port=10255 \
    --cgroup-root=/ocihsm-kubelet --cgroups-per-qos=false --enforce-node-allocatable= --fail-swap-on=false \
    --make-iptables-util-chains=false --eviction-hard='memory.available<10Mi' --image-gc-high-threshold=100 \
    --sync-frequency=5s --file-check-frequency=1s -v=3 >"$place/kubelet.log" 2>&1 &

status() { timeout 10 wget -q -O - http://127.0.0.1:10255/pods >"$place/status" 2>/dev/null && grep -q "$1" "$place/status"; }
wait_for status '"items"'
told_nothing() { ! grep -q 4321-of-the-test "$place/status" "$place"/*.log || fail "the PIN was told"; }

echo "-- without the key"
cp "$place/pod.yaml" "$place/pods/"
wait_for status 'ocihsm: error: '
grep -o '"waiting":{[^}]*}' "$place/status"
told_nothing

echo "-- with the key"
install -m 600 "$place/imagekey.yaml" /etc/containerd/ocicrypt/keys/
wait_for status '"reason":"Completed"'
cat /var/log/pods/*/hello/*.log
grep -q 'opened for a kubelet' /var/log/pods/*/hello/*.log || fail "the container said something else"
told_nothing

echo "-- gone"
rm "$place/pods/pod.yaml"
gone() { ! status '"name":"hello"'; }
wait_for gone
