#!/usr/bin/env bash
# Builds and runs every test. The last line is `N passed, N failed` with what was really run; the exit status is not 0 if anything
# failed or did not build. Installs what is missing first, where deploy/install.sh may.
set -uo pipefail

usage() {
  cat <<'USAGE'
usage: tests/run.sh [--all] [BAZEL_OPTION...]
  --all  the long tests too (tag `long`), and more of those that look for races
Tests with the tag `races` run again under ThreadSanitizer. Anything else goes to bazel, e.g. --config=asan.
USAGE
}

cd "$(dirname "$0")/.." || exit 1
filter=--test_tag_filters=-long
races=(--test_tag_filters=races,-long)
options=()
for argument in "$@"; do
  case $argument in
    --all)
      filter=--test_tag_filters=
      races=(--test_tag_filters=races --test_env=MYRIAD_STRESS_FACTOR=5 --test_timeout=3600)
      ;;
    -h | --help) usage; exit 0 ;;
    -*) options+=("$argument") ;;
    *) echo "tests: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done

deploy/install.sh --tests || exit 1

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
checks=()
check() {
  echo "== $1"
  if "${@:2}"; then checks+=("--passed=$1"); else checks+=("--failed=$1"); fi
}
check "format" tests/tools/check_format.sh
check "dependencies point one way" tests/tools/check_dependencies.py
check "parallel loops run on all threads" tests/tools/check_parallel_for.py

echo "== build"
built=passed
bazel build --keep_going "${options[@]}" //... || built=failed
checks+=("--$built=build of //...")

echo "== tests"
bazel test --keep_going "$filter" --build_tests_only --build_event_json_file="$results/tests.json" "${options[@]}" //tests/...
tested=$?

events=("$results/tests.json")

# A program is of one sanitizer only.
if [[ " ${options[*]} " != *" --config="[at]san* ]]; then
  echo "== races"
  bazel test --keep_going --config=tsan "${races[@]}" --build_tests_only --build_event_json_file="$results/races.json" "${options[@]}" //tests/...
  raced=$?
  ((tested != 0)) || tested=$raced
  events+=("$results/races.json")
fi

tests/tools/count_results.py "${checks[@]}" "${events[@]}"
counted=$?
# 0: all passed. 3: tests failed, and they were counted. Anything else is no result to trust.
((tested == 0 || counted != 0)) || { echo "tests: bazel ended with $tested" >&2; exit 1; }
exit $counted
