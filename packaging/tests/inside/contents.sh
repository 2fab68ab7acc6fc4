#!/bin/sh
# Runs where the package is installed: a manual page for each command, completions that know it, what is promised beside
# the program, and in the README no link to a page that is not there.
#
# usage: contents.sh COMPLETIONS...    the files of completions, which differ from one system to another
set -eu
doc=/usr/share/doc/ocihsm

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

commands() { "$@" --help | awk '/^Commands:/ { inside = 1; next } !NF { inside = 0 } inside && /^  [^ ]/ && $1 != "help" { print $1 }'; }

# name COMMAND...: the page of a command, and of those below it.
pages() {
    name=$(echo "$*" | tr ' ' -)
    gzip -dc "/usr/share/man/man1/$name.1.gz" >/tmp/page || fail "there is no page $name"
    grep -q '^\.SH NAME' /tmp/page || fail "the page $name is none"
    seen=$((seen + 1))
    for command in $(commands "$@"); do
        for file in $completions; do
            grep -q -- "$command" "$file" || fail "$file does not know $command"
        done
        pages "$@" "$command"
    done
}

completions=$*
seen=0
pages ocihsm
[ "$seen" -ge 15 ] || fail "only $seen commands were found"
[ "$seen" = "$(ls /usr/share/man/man1/ocihsm*.1.gz | wc -l)" ] || fail "there are pages of what is no command"
for file in README.md SECURITY.md examples/containerd-v2.toml examples/containerd-v3.toml examples/ocicrypt.conf \
    examples/kubernetes/install.yaml examples/kubernetes/keys.yaml; do
    [ -s "$doc/$file" ] || fail "there is no $doc/$file"
done
gzip -dc $doc/sbom.cdx.json.gz | grep -q '"bomFormat": "CycloneDX"' || fail "there is no bill of materials"
for link in $(grep -o ']([^):#]*[)#]\|src\(set\)\?="[^":]*"' $doc/README.md | sed 's/^](//; s/^src[set]*="//; s/[)#"]$//'); do
    [ -e "$doc/$link" ] || fail "the README names $link, which is not in the package"
done
! grep -rn '/usr/local/bin/ocihsm' $doc/examples/*.toml || fail "an example names another place than the package's"
echo "$seen manual pages"
