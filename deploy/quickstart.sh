#!/usr/bin/env bash
# From a bare Debian 12 (as root) to a trained model: installs what is missing, builds, draws 2,000 Han characters, trains with 2 shards
# and 2 workers as processes of this machine, verifies on 400 characters that training never saw. What is done already is not done
# again. On another system, or without root, it changes nothing and prints what is missing.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/quickstart.sh [--seed N] [--skip-install] [--run-dir DIR]
  --seed N        seeds the network's weights, the order of the images and the sampling (default 0)
  --skip-install  take the machine as it is
  --run-dir DIR   where the results go (default runs/quickstart-DATE-TIME in this repository)
The first time it downloads 0.55 GB besides Debian's packages, and builds for some minutes.
USAGE
}

caller=$PWD
cd "$(dirname "$0")/.."
seed=0 install=1 run_dir=runs/quickstart-$(date +%Y%m%d-%H%M%S)
while (($#)); do
  case $1 in
    --seed | --run-dir)
      (($# >= 2)) || { echo "quickstart: $1 needs a value" >&2; exit 2; }
      case $1:$2 in
        --seed:*) seed=$2 ;;
        --run-dir:/*) run_dir=$2 ;;
        *) run_dir=$caller/$2 ;;
      esac
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

say "2/4 build"
bazel build //client:myriad //server:myriad-server //worker:myriad-worker
myriad=bazel-bin/client/myriad

say "3/4 data: 2,000 characters x 10 drawings to train on, 400 others to verify"
data=runs/data/glyphs
settings=(classes=2000 eval_classes=400 per_class=10 size=48 pairs=6000 seed=1 min_designs=5)
# Whether glyphs.json says that the data were drawn with these settings.
drawn_so() {
  local setting
  for setting in "${settings[@]}"; do grep -Eqs "\"${setting%=*}\": ${setting#*=}(,|\$)" "$data/glyphs.json" || return 1; done
}
if drawn_so; then
  echo "$data is there"
else
  if [[ -e $data/glyphs.json ]]; then
    echo "$data was drawn with other settings: it is drawn anew"
    rm -r "$data"
  elif [[ -e $data ]]; then
    echo "quickstart: $data is no data set of \`myriad data glyphs\`; move it away" >&2
    exit 1
  fi
  mkdir -p runs/data
  arguments=()
  for setting in "${settings[@]}"; do key=${setting%=*}; arguments+=("--${key//_/-}" "${setting#*=}"); done
  "$myriad" data glyphs --out "$data" "${arguments[@]}"
fi

say "4/4 training: 2 shards hold the class centers, 2 workers the network"
"$myriad" train --config deploy/examples/quickstart.textproto --set "seed=$seed" --run-dir "$run_dir"

# The last verification of the run, as its metrics tell it.
accuracy=$(sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$run_dir/metrics.jsonl" | tail -n 1)
[[ -n $accuracy ]] || { echo "quickstart: $run_dir/metrics.jsonl has no verification" >&2; exit 1; }
cat <<RESULTS

== results in $run_dir
config.textproto       every choice of the run     metrics.jsonl  its figures, step by step
backbone.safetensors   the network                 logs/          what each process said
head/glyphs/           the class centers, and which character each belongs to
look into them:        $myriad query centers --run $run_dir --classes 0,1,2
RESULTS
LC_ALL=C printf 'verification accuracy %.4f\n' "$accuracy"
