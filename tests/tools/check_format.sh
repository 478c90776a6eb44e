#!/usr/bin/env bash
# Fails, naming the lines, if a tracked C++ file is not as clang-format 14 with the repository's .clang-format would leave it.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.cc')
((${#files[@]} == 0)) || clang-format-14 --dry-run -Werror "${files[@]}"
