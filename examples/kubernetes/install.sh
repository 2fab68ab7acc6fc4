#!/bin/sh
# Runs in the DaemonSet's container: keeps a node's files as the ConfigMap and the Secret say. Restarts nothing.
#
# usage: install.sh HOST [SOURCE]
#   HOST    the directory below which the node's /usr/local/bin and /etc/containerd are
#   SOURCE  the directory below which the program, config/, keys/ and tmp/ are; the container's root if not given
set -eu

host=$1
source=${2-}
ocicrypt=$host/etc/containerd/ocicrypt
keys=$ocicrypt/keys/kubernetes

# put MODE FROM TO: replaces TO whole, and only if its content, owner or mode differ; a file of another owner could not be
# given the right mode, for the container has no capabilities. The decoder passes over names that begin with "..".
put() {
    if ! cmp -s "$2" "$3" || [ "$(stat -c %u:%a "$3")" != "$(id -u):$1" ]; then
        new=$(dirname "$3")/..$(basename "$3").new
        rm -f "$new"
        (umask 077 && cp "$2" "$new")
        chmod "$1" "$new"
        mv -f "$new" "$3"
        echo "installed ${3#"$host"}"
    fi
}

bring() {
    mkdir -p "$host/etc/containerd/conf.d"
    for directory in "$ocicrypt" "$ocicrypt/keys" "$keys"; do
        [ -d "$directory" ] || mkdir -m 700 "$directory"
        chmod go-w "$directory"
    done
    chmod 700 "$keys"
    rm -f "$keys"/..*.new
    put 755 "$source/usr/local/bin/ocihsm" "$host/usr/local/bin/ocihsm"
    put 644 "$source/config/ocicrypt.conf" "$ocicrypt/ocicrypt.conf"
    for key in "$source"/keys/* "$source"/keys/.[!.]*; do
        [ ! -f "$key" ] || put 600 "$key" "$keys/$(basename "$key")"
    done
    # A key that was taken out of the Secret does not stay on the node.
    for key in "$keys"/* "$keys"/.[!.]*; do
        if [ -f "$key" ] && [ ! -f "$source/keys/$(basename "$key")" ]; then
            rm -f "$key"
            echo "removed ${key#"$host"}"
        fi
    done
    # Last: containerd reads it at its next start, and then everything that it names is there.
    put 644 "$source/config/ocihsm.toml" "$host/etc/containerd/conf.d/ocihsm.toml"
}

# It outlives a restart of the container, and says that the pod is ready.
rm -f "$source/tmp/installed"
pause=
trap '[ -z "$pause" ] || kill "$pause" 2>/dev/null || true; exit 0' TERM INT
while :; do
    bring
    : >"$source/tmp/installed"
    sleep 60 &
    pause=$!
    wait "$pause"
done
