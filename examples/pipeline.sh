#!/bin/sh
# A shell pipeline over a folder of photographs: a label map and a picture of each, and all maps in one archive.
#
#   sh examples/pipeline.sh PHOTOS OUT [options of spx segment]
#
# Give the same command again after an interruption, or when there are more photographs: what is done is passed over.
# Photographs that cannot be read are named; the others are done all the same, and the script ends with 1.
set -eu
photos=$1
out=$2
shift 2

mkdir -p "$out"
status=0
find "$photos" -type f \( -name '*.jpg' -o -name '*.png' \) -print0 |
    spx segment --from-file - -0 -m snic -k 200 -o "$out" --overlay mean --resume "$@" >"$out/maps.txt" || status=$?

tar -czf "$out/maps.tar.gz" -T "$out/maps.txt"
echo "$(wc -l <"$out/maps.txt") maps in $out/maps.tar.gz"
exit "$status"
