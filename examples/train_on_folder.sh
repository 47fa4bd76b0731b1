#!/bin/sh
# Train a method on a folder of one's own, see whether it got better, and segment with the weights.
#
#   sh examples/train_on_folder.sh DATA RUN [options of spx train]
#
# DATA holds images/ and labels/, paired by name; every tenth image is held back and chooses the best weights. Without
# options this is SSN's short recipe, hours on a CPU; to see it run in seconds on pictures that a script draws:
#
#   python examples/shapes.py data
#   sh examples/train_on_folder.sh data run --steps 4 --batch-size 1 --crop 64
set -eu
data=$1
run=$2
shift 2

spx train ssn --data "$data" --out "$run" --recipe short "$@"
for weights in ssn "$run/best.safetensors"; do
    echo "$weights"
    spx eval --data "$data" -m ssn --weights "$weights" -k 50 --metric asa,br
done
spx segment "$data/images" -m ssn --weights "$run/best.safetensors" -k 50 -o "$run/maps"
