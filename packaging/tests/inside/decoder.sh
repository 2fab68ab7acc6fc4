#!/bin/sh
# Runs in a fresh Debian root: Debian's own ctd-decoder and the package, in either order. Whoever asks for that name gets
# Debian's program as long as it is there, and no file of it changes.
#
# usage: decoder.sh PACKAGE NEWER IMGCRYPT
set -eu
package=$1 newer=$2 imgcrypt=$3
name=/usr/bin/ctd-decoder
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

quietly() { "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "$*"; }; }

is_debians() {
    [ ! -L $name ] && [ "$(dpkg -S $name)" = "imgcrypt: $name" ] || fail "$1: $name is not Debian's"
    dpkg --verify imgcrypt | grep . && fail "$1: a file differs from Debian's package"
    ctd-decoder --help >/tmp/said 2>&1 || { cat /tmp/said; fail "$1: Debian's decoder does not run"; }
    # It is no program of ours that calls itself so.
    ! grep -q ocihsm /tmp/said || { cat /tmp/said; fail "$1: ocihsm answers"; }
}
is_ours() { [ "$(readlink -f $name)" = /usr/bin/ocihsm ] || fail "$1: the name is not ours"; }
is_nobodys() { [ ! -e $name ] && [ ! -L $name ] || fail "$1: $name is still there"; }

echo "-- Debian's is there first"
quietly dpkg -i "$imgcrypt"
dpkg-query -W imgcrypt
is_debians "as it comes"
quietly dpkg -i "$package"
is_debians "after the installation"
quietly dpkg -i "$newer"
is_debians "after the upgrade"
quietly dpkg --purge ocihsm
is_debians "after the purge"
quietly dpkg --purge imgcrypt
is_nobodys "after both"

echo "-- Debian's comes second"
quietly dpkg -i "$package"
is_ours "alone"
quietly dpkg -i "$imgcrypt"
is_debians "over the alternative"
quietly dpkg -i "$newer"
is_debians "after an upgrade"
quietly dpkg --purge ocihsm
is_debians "after a purge"

echo "-- Debian's goes away"
quietly dpkg -i "$package"
quietly dpkg --purge imgcrypt
is_nobodys "after imgcrypt"
quietly dpkg-reconfigure ocihsm
is_ours "after dpkg-reconfigure"
quietly dpkg --purge ocihsm
is_nobodys "at the end"
[ ! -e /etc/alternatives/ctd-decoder ] && [ ! -L /etc/alternatives/ctd-decoder ] || fail "the alternative stayed"
