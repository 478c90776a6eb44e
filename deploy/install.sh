#!/usr/bin/env bash
# Sets up a Debian 12 machine (x86-64, as root) to build, run and test Myriad: Debian packages, and the pinned LibTorch wheel unpacked
# outside the checkout. Does nothing twice. On another system, or without root, it changes nothing and prints what is missing.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/install.sh [--tests] [--cuda] [--python]
  --tests   also what tests/run.sh needs: GoogleTest, clang-format, Debian's Python with PyTorch and gRPC
  --cuda    also the CUDA libraries that `bazel build --config=cuda` links (2 GB more)
  --python  also a Python environment with the pinned PyTorch, for tests/benchmarks (implies --cuda)
Files go to ${MYRIAD_CACHE:-~/.cache/myriad}; LibTorch to $LIBTORCH_HOME if that is set.
USAGE
}

root_dir=$(cd "$(dirname "$0")/.." && pwd)
cache=${MYRIAD_CACHE:-$HOME/.cache/myriad}
libtorch=${LIBTORCH_HOME:-$cache/libtorch-2.11.0}
python_home=$cache/python
want_tests=0 want_cuda=0 want_python=0
for argument in "$@"; do
  case $argument in
    --tests) want_tests=1 ;;
    --cuda) want_cuda=1 ;;
    --python) want_cuda=1 want_python=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install: unknown option $argument" >&2; usage >&2; exit 2 ;;
  esac
done

packages=(
  # The build.
  bazel-bootstrap bazel-rules-java g++ git ca-certificates pkg-config python3 python3-pip unzip
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev librocksdb-dev libgloo-dev zlib1g-dev
  libjpeg-dev libpng-dev libfreetype-dev libxxhash-dev nlohmann-json3-dev libcli11-dev
  # Type designs from which `myriad data glyphs` draws.
  fonts-hanazono fonts-babelstone-han fonts-wqy-zenhei fonts-droid-fallback fonts-arphic-uming fonts-arphic-ukai fonts-unifont
)
if ((want_tests)); then
  packages+=(libgtest-dev libgmock-dev clang-format-14 procps python3-numpy python3-protobuf python3-grpcio python3-torch)
fi
if ((want_python)); then packages+=(python3-venv); fi

# Wheels are unpacked, not installed: lists of pinned wheels and the folder that each goes to.
lists=("$root_dir/third_party/libtorch/requirements.txt") folders=("$libtorch")
if ((want_cuda)); then lists+=("$root_dir/third_party/libtorch/requirements-cuda.txt") folders+=("$libtorch"); fi
if ((want_tests)); then lists+=("$root_dir/tests/interop/requirements.txt") folders+=("$cache/python-tests"); fi

# What is missing.
missing_packages=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing_packages+=("$package")
done
# A wheel is there once its mark is: marks are made after unpacking.
missing_wheels=() missing_folders=()
for i in "${!lists[@]}"; do
  while read -r wheel; do
    [[ -e ${folders[i]}/.parts/${wheel%% *} ]] || { missing_wheels+=("$wheel"); missing_folders+=("${folders[i]}"); }
  done < <(grep -E '^[a-z0-9-]+==' "${lists[i]}")
done
missing_python=0
if ((want_python)) && ! cmp -s "$root_dir/third_party/libtorch/requirements-python.txt" "$python_home/requirements.txt"; then
  missing_python=1
fi

if ((${#missing_packages[@]} + ${#missing_wheels[@]} + missing_python == 0)); then
  echo "install: everything is there"
  exit 0
fi

system=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}" || uname -s)
refusal=""
[[ $system == "debian 12" && $(uname -m) == x86_64 ]] || refusal="this is $system on $(uname -m), and the set-up is for Debian 12 on x86_64"
if [[ -z $refusal && $(id -u) != 0 ]]; then refusal="it needs root"; fi
if [[ -n $refusal ]]; then
  {
    echo "install: nothing was changed, because $refusal. Missing here:"
    if ((${#missing_packages[@]})); then echo "  Debian packages: ${missing_packages[*]}"; fi
    for i in "${!missing_wheels[@]}"; do echo "  the wheel ${missing_wheels[i]%% *}, unpacked in ${missing_folders[i]}"; done
    if ((missing_python)); then echo "  a Python environment in $python_home (third_party/libtorch/requirements-python.txt)"; fi
  } >&2
  exit 1
fi

if ((${#missing_packages[@]})); then
  echo "install: ${#missing_packages[@]} Debian packages: ${missing_packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing_packages[@]}" >/dev/null
fi

if ((${#missing_wheels[@]})); then
  # Unpacked by hand, so that any Python serves and parts that share a folder can come one by one. The platforms are every tag
  # that pip would accept on Debian 12.
  platforms=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
  for minor in $(seq 28 -1 5); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
  mkdir -p "$cache"
  download=$(mktemp -d "$cache/.download.XXXXXX")
  trap 'rm -rf "$download"' EXIT
  for i in "${!missing_wheels[@]}"; do
    wheel=${missing_wheels[i]} folder=${missing_folders[i]}
    echo "install: ${wheel%% *} into $folder"
    echo "$wheel" >"$download/requirements.txt"
    /usr/bin/python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
      --python-version 3.11 --implementation cp "${platforms[@]}" --dest "$download" --requirement "$download/requirements.txt"
    mkdir -p "$folder/.parts"
    unzip -q -o "$download"/*.whl -d "$folder"
    rm "$download"/*.whl
    touch "$folder/.parts/${wheel%% *}"
  done
fi

if ((missing_python)); then
  echo "install: a Python environment in $python_home"
  /usr/bin/python3 -m venv --clear "$python_home"
  "$python_home/bin/pip" install --quiet --disable-pip-version-check -r "$root_dir/third_party/libtorch/requirements-python.txt"
  # PyTorch itself is the unpacked wheel that C++ links.
  echo "$libtorch" >"$("$python_home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/libtorch.pth"
  cp "$root_dir/third_party/libtorch/requirements-python.txt" "$python_home/requirements.txt"
fi
echo "install: done"
