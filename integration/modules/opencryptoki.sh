#!/usr/bin/env bash
# An openCryptoki soft token with a daemon of its own, in namespaces of its own: the machine's is not touched.
#
# usage: opencryptoki.sh up DIR      makes token "kbs" with keys "rsa2048" and "other", prints how to reach it
#        opencryptoki.sh down DIR    ends the daemon and all that is left in the namespaces
# PIN in the environment sets the user PIN, 4 to 8 characters. Packages: opencryptoki opensc. Needs root.
#
# On a machine of your own, leave the namespaces out: start pkcsslotd, then what follows it below, with the slot that
# has libpkcs11_sw.so in /etc/opencryptoki/opencryptoki.conf (3 in Debian). A user other than root has to be named in
# the group pkcs11 in /etc/group.
set -euo pipefail
dir=${2:?usage: opencryptoki.sh up|down DIR} pin=${PIN:-12345678}
module=$(ls /usr/lib/*/pkcs11/libopencryptoki.so | head -n 1)

case ${1:-} in
up)
    mkdir -p "$dir"
    PIN=$pin unshare --mount --ipc --pid --fork --kill-child --mount-proc "$0" inside "$dir" >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    end=$((SECONDS + 60))
    until [ -e "$dir/ready" ]; do
        [ $SECONDS -lt $end ] || { cat "$dir/log" >&2; echo "the token was not there within 60 s" >&2; "$0" down "$dir"; exit 1; }
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
        sleep 0.05
    done
    first=$(pgrep --parent "$(cat "$dir/pid")")
    echo "module $module"
    echo "run nsenter --target $first --mount --ipc --pid"
    ;;
inside)
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs /var/lib/opencryptoki
    printf 'version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n' >"$dir/opencryptoki.conf"
    mount --bind "$dir/opencryptoki.conf" /etc/opencryptoki/opencryptoki.conf
    mkdir -p /run/opencryptoki /run/lock/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ
    chgrp -R pkcs11 /run/opencryptoki /run/lock/opencryptoki /var/lib/opencryptoki
    chmod -R 0770 /run/opencryptoki /run/lock/opencryptoki /var/lib/opencryptoki
    /usr/sbin/pkcsslotd
    # The security officer's first PIN is 87654321, and may stay so.
    printf 'kbs\n' | pkcsconf -I -c 0 -S 87654321
    pkcsconf -u -c 0 -S 87654321 -n "$pin"
    for key in rsa2048:01 other:02; do
        pkcs11-tool --module "$module" --token-label kbs --login --pin "$pin" --keypairgen --key-type rsa:2048 \
            --label "${key%:*}" --id "${key#*:}" --usage-decrypt
    done
    touch "$dir/ready"
    exec sleep infinity
    ;;
down)
    # The first process of a PID namespace takes the others with it.
    kill -KILL "$(cat "$dir/pid")" 2>/dev/null || true
    ;;
esac
