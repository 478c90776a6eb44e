#!/usr/bin/env python3
"""Checks that every target with an at::parallel_for is compiled with -fopenmp: without it the loop silently runs on one thread.

Exit status 1 with one line a violation. With --root DIR another tree is checked (tests use it).
"""
import argparse
import pathlib
import re
import sys

FOLDERS = ("client", "head", "proto", "server", "tests", "worker")


def targets(text):
    """Name and text of each cc_... target of a BUILD file."""
    for match in re.finditer(r"^cc_\w+\(.*?^\)", text, re.MULTILINE | re.DOTALL):
        name = re.search(r'name = "([^"]+)"', match.group())
        if name:
            yield name.group(1), match.group()


def violations(root):
    for build in sorted(path for folder in FOLDERS for path in (root / folder).rglob("BUILD.bazel")):
        for name, target in targets(build.read_text()):
            if '"-fopenmp"' in target:
                continue
            for file in re.findall(r'"([^":/]+\.(?:cc|h))"', target):
                path = build.parent / file
                if path.is_file() and "at::parallel_for(" in path.read_text():
                    yield f"{path.relative_to(root)} uses at::parallel_for; its target {name} lacks copts = [\"-fopenmp\"]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    found = list(violations(parser.parse_args().root))
    print("\n".join(found) if found else "parallel loops run on all threads")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
