#!/bin/sh
# usage: enter.sh ROOT SCRATCH TEMPORARY REPOSITORY BINARIES PROGRAM...
# Runs a program on an overlay over ROOT (or on this machine's root, if that is empty), in mount and process namespaces
# that are new. Everything done here is mounts, so it goes with the namespaces.
set -e
root=$1 scratch=$2 temporary=$3 repository=$4 binaries=$5
shift 5
if [ -n "$root" ]; then
    mkdir "$scratch/upper" "$scratch/work" "$scratch/merged"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/merged"
    cd "$scratch/merged"
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    for directory in "$temporary" "$repository" "$binaries"; do
        mkdir -p ".$directory"
        mount --bind "$directory" ".$directory"
    done
    cp -L /etc/resolv.conf /etc/hosts etc/
    mount -t proc proc proc
    pivot_root . .
    umount -l .
    cd /
else
    mount -t tmpfs tmpfs /run
    mount -t proc proc /proc
fi
# The shell stays, as the parent of what loses its own.
"$@" &
wait $!
