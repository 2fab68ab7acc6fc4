#!/bin/sh
# Runs in a fresh Debian root: installs the package, uses it, upgrades it over a changed configuration, removes and purges
# it, and compares the files that are there with those before.
#
# usage: deb.sh PACKAGE NEWER VECTORS
set -eu
package=$1 newer=$2 vectors=$3
here=$(dirname "$0")
conffile=/etc/containerd/conf.d/ocihsm.toml
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Everything but what dpkg writes about its own work, and what is not of a package.
listed() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/lib/dpkg -o -path /var/log \
        -o -path /var/cache \) -prune -o -print | sort
}

timed() {
    began=$(date +%s%N)
    "$@"
    echo "took $1 $((($(date +%s%N) - began) / 1000000)) ms"
}

# What a program says that would start or restart something.
watch_services() {
    mkdir -p /usr/local/sbin
    for name in systemctl service invoke-rc.d deb-systemd-invoke; do
        printf '#!/bin/sh\necho "$0 $*" >>/tmp/services\n' >/usr/local/sbin/$name
        chmod +x /usr/local/sbin/$name
    done
}

install_it() {
    dpkg -i "$package" >/tmp/said 2>&1 || { cat /tmp/said; fail "dpkg -i"; }
    grep '^ocihsm: ' /tmp/said >/tmp/next || true
    [ "$(wc -l </tmp/next)" = 2 ] || { cat /tmp/said; fail "it says something else than two lines on what comes next"; }
}
use_it() { sh "$here/use.sh" "$vectors" softhsm2; }
upgrade_it() { dpkg --force-confold -i "$newer" >/tmp/said 2>&1 || { cat /tmp/said; fail "the upgrade"; }; }
remove_it() { dpkg --remove ocihsm >/tmp/said 2>&1 || { cat /tmp/said; fail "dpkg --remove"; }; }
purge_it() { dpkg --purge ocihsm >/tmp/said 2>&1 || { cat /tmp/said; fail "dpkg --purge"; }; }

watch_services
listed >/tmp/before
timed install_it
ocihsm --version
[ "$(ocihsm config containerd)" = "$(cat $conffile)" ] || fail "the stream processors are not those that it prints"
[ "$(readlink -f /usr/bin/ctd-decoder)" = /usr/bin/ocihsm ] || fail "ctd-decoder is not there"
[ "$(stat -c %a%U /etc/containerd/ocicrypt/keys)" = 700root ] || fail "the directory of keys is not root's alone"
dpkg --verify ocihsm | grep . && fail "a file differs from the package's"
sh "$here/contents.sh" /usr/share/bash-completion/completions/ocihsm /usr/share/fish/vendor_completions.d/ocihsm.fish \
    /usr/share/zsh/vendor-completions/_ocihsm
for file in copyright third-party.txt.gz changelog.gz changelog.Debian.gz; do
    [ -s /usr/share/doc/ocihsm/$file ] || fail "there is no $file"
done
[ "$(dpkg-query -W -f '${Conffiles}' ocihsm | awk 'NF { print $1 }')" = $conffile ] || fail "the configuration is no conffile"
timed use_it

echo "-- upgrade over a changed configuration"
echo '# changed by hand' >>$conffile
timed upgrade_it
grep -q '^# changed by hand' $conffile || fail "the upgrade lost what was changed by hand"
! grep -q '^ocihsm: ' /tmp/said || fail "an upgrade says again what comes next"
[ "$(dpkg-query -W -f '${Version}' ocihsm)" != "$(dpkg-deb -f "$package" Version)" ] || fail "nothing was upgraded"
[ "$(readlink -f /usr/bin/ctd-decoder)" = /usr/bin/ocihsm ] || fail "the upgrade lost ctd-decoder"
ls /etc/containerd/ocicrypt/keys/imagekey.yaml >/dev/null

echo "-- remove and purge"
timed remove_it
[ ! -e /usr/bin/ocihsm ] && [ ! -L /usr/bin/ctd-decoder ] && [ ! -e /usr/bin/ctd-decoder ] || fail "a program stayed"
grep -q '^# changed by hand' $conffile || fail "removing it took the configuration, before a purge"
timed purge_it
# What an operator made by hand is no package's.
for made in /etc/ocicrypt.conf /etc/containerd/ocicrypt/keys/imagekey.yaml; do
    rm "$made" || fail "the purge took $made, which was not its own"
done
rm -rf /var/lib/ocihsm-token
rmdir -p /etc/containerd/ocicrypt/keys 2>/dev/null || true
listed >/tmp/after
diff /tmp/before /tmp/after || fail "something was left behind, or taken away"

echo "-- a ctd-decoder that is there already stays"
printf '#!/bin/sh\necho another\n' >/usr/bin/ctd-decoder
chmod +x /usr/bin/ctd-decoder
install_it
[ "$(ctd-decoder)" = another ] || fail "it took the place of another ctd-decoder"
purge_it
[ "$(ctd-decoder)" = another ] || fail "the purge took another's ctd-decoder"
[ ! -s /tmp/services ] || { cat /tmp/services; fail "it touched a service"; }
