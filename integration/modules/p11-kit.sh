#!/usr/bin/env bash
# p11-kit remoting: a process that may not see the HSM's files or devices reaches it through a socket.
#
# usage: p11-kit.sh up DIR      makes a SoftHSM token (softhsm.sh) and serves it, prints how to reach it
#        p11-kit.sh down DIR    ends the server
# PIN in the environment sets the user PIN. Packages: p11-kit p11-kit-modules softhsm2 opensc. Any user may run this; the
# socket is its user's and root's.
set -euo pipefail
dir=${2:?usage: p11-kit.sh up|down DIR}

case ${1:-} in
up)
    served=$("$(dirname "$0")/softhsm.sh" up "$dir" | sed -n 's/^module //p')
    # In the background from here on. The URI is a filter: what does not match is not served.
    SOFTHSM2_CONF=$dir/softhsm2.conf p11-kit server --name "$dir/socket" --provider "$served" pkcs11:token=kbs \
        </dev/null >"$dir/server" 2>&1
    sed -n 's/.*P11_KIT_SERVER_PID=\([0-9]*\).*/\1/p' "$dir/server" >"$dir/pid"
    echo "module $(ls /usr/lib/*/pkcs11/p11-kit-client.so | head -n 1)"
    echo "env P11_KIT_SERVER_ADDRESS unix:path=$dir/socket"
    ;;
down)
    kill "$(cat "$dir/pid")" 2>/dev/null || true
    ;;
esac
