#!/usr/bin/env bash
# Counts the instructions of each operation on a layer of 8 MiB with callgrind: a figure that no busy machine changes.
#
# usage: benches/instructions.sh      (needs valgrind, and builds the bench)
#
# "raw" is the primitives of decryption alone, so "decrypt" less "raw" is what the pipeline adds. valgrind's processor
# has AES and carry-less multiplication but neither SHA nor vectors of 512 bits, so the hashes are dearer in this
# table than on a real one; and a string instruction counts once for each byte, so a copy is about 1 a byte.
set -euo pipefail
cd "$(dirname "$0")/.."

bench=$(cargo bench --bench instructions --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p')

# count OPERATION CIPHER TIMES: instructions of the whole process, start and preparation included.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" "$@" 2>&1 | awk '/Collected/ { print $NF }'
}

printf '| operation | cipher | instructions | a byte |\n| --- | --- | --- | --- |\n'
for cipher in ctr gcm; do
    for operation in raw decrypt encrypt; do
        once=$(count $operation $cipher 1)
        twice=$(count $operation $cipher 2)
        awk -v operation=$operation -v cipher=$cipher -v count=$((twice - once)) \
            'BEGIN { printf "| %s | %s | %d | %.3f |\n", operation, cipher, count, count / 8388608 }'
    done
done
