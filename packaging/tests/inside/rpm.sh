#!/bin/sh
# The same as deb.sh for the .rpm, with rpm in a Debian root: its database knows no C library, so what the package asks for is
# compared with what is there, and not resolved.
#
# usage: rpm.sh PACKAGE NEWER VECTORS
set -eu
package=$1 newer=$2 vectors=$3
here=$(dirname "$0")
conffile=/etc/containerd/conf.d/ocihsm.toml

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

listed() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/lib/rpm -o -path /root -o -path /var/log \) -prune -o -print | sort
}

timed() {
    began=$(date +%s%N)
    "$@"
    echo "took $1 $((($(date +%s%N) - began) / 1000000)) ms"
}

install_it() {
    rpm --nodeps -i "$package" >/tmp/said 2>&1 || { cat /tmp/said; fail "rpm -i"; }
    [ "$(grep -c '^ocihsm: ' /tmp/said)" = 2 ] || { cat /tmp/said; fail "it does not say what comes next in two lines"; }
}
use_it() { sh "$here/use.sh" "$vectors" softhsm2; }
upgrade_it() { rpm --nodeps -U "$newer" >/tmp/said 2>&1 || { cat /tmp/said; fail "rpm -U"; }; }
remove_it() { rpm --nodeps -e ocihsm >/tmp/said 2>&1 || { cat /tmp/said; fail "rpm -e"; }; }

rpm -K --nosignature "$package"
rpm --initdb
listed >/tmp/before
timed install_it
ocihsm --version
[ "$(ocihsm config containerd)" = "$(cat $conffile)" ] || fail "the stream processors are not those that it prints"
[ "$(readlink -f /usr/bin/ctd-decoder)" = /usr/bin/ocihsm ] || fail "ctd-decoder is not there"
rpm -V --nodeps ocihsm || fail "a file differs from the package's"
sh "$here/contents.sh" /usr/share/bash-completion/completions/ocihsm /usr/share/fish/vendor_completions.d/ocihsm.fish \
    /usr/share/zsh/site-functions/_ocihsm
[ "$(rpm -qc ocihsm)" = $conffile ] || fail "the configuration is not marked as such"
[ "$(rpm -qL ocihsm | wc -l)" = 2 ] || fail "a licence is missing"
timed use_it
echo '# changed by hand' >>$conffile
timed upgrade_it
grep -q '^# changed by hand' $conffile || fail "the upgrade lost what was changed by hand"
! grep -q '^ocihsm: ' /tmp/said || fail "an upgrade says again what comes next"
[ "$(readlink -f /usr/bin/ctd-decoder)" = /usr/bin/ocihsm ] || fail "the upgrade lost ctd-decoder"
timed remove_it
[ ! -e /usr/bin/ocihsm ] && [ ! -L /usr/bin/ctd-decoder ] || fail "a program stayed"
# A changed configuration is kept under another name, as rpm does.
for made in $conffile.rpmsave /etc/ocicrypt.conf /etc/containerd/ocicrypt/keys/imagekey.yaml; do
    rm "$made" || fail "removing it took $made"
done
rm -rf /var/lib/ocihsm-token $conffile.rpmnew
# A distribution that has rpm has this directory as well.
rmdir /usr/share/licenses 2>/dev/null || true
rmdir -p /etc/containerd/conf.d /etc/containerd/ocicrypt/keys 2>/dev/null || true
rmdir -p /etc/containerd/ocicrypt/keys 2>/dev/null || true
listed >/tmp/after
diff /tmp/before /tmp/after || fail "something was left behind, or taken away"
