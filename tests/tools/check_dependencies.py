#!/usr/bin/env python3
"""Checks that dependencies point one way: each folder includes, and its targets name, only folders that it may know.

Exit status 1 with one line a violation. With --root DIR another tree is checked (tests use it).
"""
import argparse
import pathlib
import re
import sys

# A folder may use itself and these. The generated code of proto/ is included as "myriad/...".
MAY_USE = {
    "proto/myriad": set(),
    "proto/wire": {"head", "proto/myriad"},
    "head": set(),
    "server": {"head", "proto/myriad", "proto/wire"},
    "client": {"head", "proto/myriad", "proto/wire"},
    "worker": {"client", "head", "proto/myriad", "proto/wire"},
}
# Large dependencies with one seam: what may be included only below these folders.
ONLY_IN = {
    "rocksdb/": ("server/store/cold_store",),
    "torch/csrc/distributed/": ("worker/",),
    "torch/nn": ("worker/",),
    "grpcpp/": ("server/", "client/", "worker/", "proto/wire/"),
    "CLI/": ("server/", "client/", "worker/"),
}


def area_of(path):
    """The entry of MAY_USE that a path of the repository belongs to, or None."""
    if path.startswith("myriad/"):
        return "proto/myriad"
    return next((area for area in MAY_USE if path == area or path.startswith(area + "/")), None)


def included(text):
    return re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', text, re.MULTILINE)


def labels(text):
    """Packages of our own that a BUILD file names in deps (not who may see a target, nor the build's own files)."""
    text = re.sub(r"(visibility\s*=\s*\[[^\]]*\])|(#.*)", "", text, flags=re.IGNORECASE)
    return [label for label in re.findall(r'"//([^:"]*)', text)]


def violations(root):
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        area = area_of(name)
        if area is None or not path.is_file():
            continue
        if path.suffix in (".h", ".cc", ".cu", ".cuh"):
            uses = included(path.read_text())
            for prefix, folders in ONLY_IN.items():
                for use in uses:
                    if use.startswith(prefix) and not name.startswith(folders):
                        yield f"{name} includes {use}, which belongs to {' and '.join(folders)}"
            if area == "head":
                for use in uses:
                    if use.endswith(".pb.h"):
                        yield f"{name} includes {use}: head knows no messages"
        elif path.name in ("BUILD.bazel", "BUILD"):
            uses = labels(path.read_text())
        elif path.suffix == ".proto":
            uses = re.findall(r'^import "([^"]+)"', path.read_text(), re.MULTILINE)
        else:
            continue
        for use in uses:
            other = area_of(use)
            if other is not None and other != area and other not in MAY_USE[area]:
                yield f"{name} uses {use}: {area} may use only {', '.join(sorted(MAY_USE[area])) or 'nothing of ours'}"
            if use.startswith("tests/"):
                yield f"{name} uses {use}: tests are known to tests only"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    found = list(violations(parser.parse_args().root))
    print("\n".join(found) if found else "dependencies point one way")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
