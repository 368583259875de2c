#!/usr/bin/env bash
# The examples in full, through Dagster: examples/run.sh FOLDER-WITH-fib25-AND-vnc [fib25|vnc ...]
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1
shift
seg=.venv/bin/seg
store=${SEG_STORE:-.local/store}

bring_in() { # VOLUME LABELS VOXEL-SIZE CHUNK
  $seg import "$data/$1/raw.tif" "$store/volumes/$1/raw.zarr" --voxel-size "$3" --chunk "$4"
  $seg import "$data/$1/$2.tif" "$store/volumes/$1/labels.zarr" --voxel-size "$3" --chunk "$4" --labels
  for file in examples/"$1"/"$1"*.yaml; do $seg volume add "$file"; done
}

[ $# -gt 0 ] || set -- fib25 vnc
for example; do
  case $example in
    fib25)
      bring_in fib25 neurons 10,10,10 64,64,64
      $seg run add examples/fib25/affinities.yaml
      .venv/bin/python -m seg_assets materialize affinities fib25 fib25_whole
      $seg report affinities fib25
      $seg report affinities fib25_whole
      ;;
    vnc)
      bring_in vnc labels 50,4.6,4.6 20,128,128
      for run in semantic instances; do
        $seg run add examples/vnc/$run.yaml
        .venv/bin/python -m seg_assets materialize $run vnc
        $seg report $run vnc
      done
      ;;
  esac
done
