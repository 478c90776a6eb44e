#!/usr/bin/env bash
# From a bare Debian 12 (as root) to a trained model: installs what is missing, builds, draws 2,000 Han characters, trains with 2 shards
# and 2 workers as processes of this machine, verifies on 400 characters that training never saw. What is done already is not done
# again. On another system, or without root, it changes nothing and prints what is missing.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/quickstart.sh [--seed N] [--skip-install] [--run-dir DIR]
  --seed N        seeds weights, order and sampling (default 0)
  --skip-install  take the machine as it is
  --run-dir DIR   where the results go (default runs/quickstart-DATE-TIME)
USAGE
}

cd "$(dirname "$0")/.."
seed=0 install=1 run_dir=runs/quickstart-$(date +%Y%m%d-%H%M%S)
while (($#)); do
  case $1 in
    --seed | --run-dir)
      (($# >= 2)) || { echo "quickstart: $1 needs a value" >&2; exit 2; }
      if [[ $1 == --seed ]]; then seed=$2; else run_dir=$2; fi
      shift
      ;;
    --skip-install) install=0 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "quickstart: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[[ $seed =~ ^[0-9]+$ ]] || { echo "quickstart: --seed is $seed; it must be a number" >&2; exit 2; }

say() { printf '\n== %s\n' "$*"; }

if ((install)); then
  say "1/4 what the machine needs"
  deploy/install.sh
fi
if [[ -n ${MYRIAD_CACHE:-} ]]; then export LIBTORCH_HOME=${LIBTORCH_HOME:-$MYRIAD_CACHE/libtorch-2.11.0}; fi

say "2/4 build"
bazel build //client:myriad //server:myriad-server //worker:myriad-worker
myriad=bazel-bin/client/myriad

say "3/4 data: 2,000 characters x 10 drawings to train on, 400 others to verify"
data=runs/data/glyphs
if [[ -e $data/dataset.json ]]; then
  echo "$data is there"
else
  mkdir -p runs/data
  "$myriad" data glyphs --out "$data" --classes 2000 --eval-classes 400 --per-class 10 --size 48 --min-designs 5
fi

say "4/4 training: 2 shards hold the class centers, 2 workers the network"
"$myriad" train --config deploy/examples/quickstart.textproto --set "seed=$seed" --run-dir "$run_dir"

# The last verification of the run, as its metrics tell it.
accuracy=$(sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$run_dir/metrics.jsonl" | tail -n 1)
cat <<RESULTS

== results in $run_dir
config.textproto       every choice of the run     metrics.jsonl  its figures, step by step
backbone.safetensors   the network                 logs/          what each process said
head/glyphs/           the class centers, and which character each belongs to
look into them:        $myriad query centers --run $run_dir --classes 0,1,2
RESULTS
LC_ALL=C printf 'verification accuracy %.4f\n' "$accuracy"
