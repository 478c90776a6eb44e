#!/usr/bin/env python3
"""The cold store's options against each other: runs `myriad bench store` for each, in turns, and prints a Markdown table of medians.

    tests/benchmarks/store_ab.py --myriad bazel-bin/client/myriad --store /data --rows 2000000 --turns 3
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

VARIANTS = {
    "as it is": [],
    "blocks of 2 KiB": ["--block-bytes", "2048"],
    "blocks of 8 KiB": ["--block-bytes", "8192"],
    "blocks of 16 KiB": ["--block-bytes", "16384"],
    "buffered": ["--buffered"],
    "rows apart by MultiGet": ["--apart", "multiget"],
    "rows together by a Get each": ["--together", "get"],
    "rows together by an iterator": ["--together", "iterator"],
    "all through memtables": ["--run-bytes", "1000000000000"],
    "BlobDB": ["--blob", "--run-bytes", "1000000000000"],
}


def measure(arguments, options):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        command = [arguments.myriad, "bench", "store", "--store", arguments.store, "--rows", str(arguments.rows), "--rounds", "3"]
        command += ["--partitions", str(arguments.partitions), "--hot-rows", "0", "--churn", str(arguments.churn), "--json", str(out)]
        subprocess.run(command + options, check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--myriad", default="bazel-bin/client/myriad")
    parser.add_argument("--store", required=True)
    parser.add_argument("--rows", type=int, default=2000000)
    parser.add_argument("--partitions", type=int, default=256)
    parser.add_argument("--churn", type=float, default=0.5, help="rows written back by each pattern, of all; 0: none, which takes a fraction of the time")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    runs = {name: [] for name in VARIANTS}
    for _ in range(arguments.turns):
        for name, options in VARIANTS.items():
            runs[name].append(measure(arguments, options))

    def median(name, *path):
        values = []
        for value in runs[name]:
            for key in path:
                value = value[key]
            values.append(value)
        return statistics.median(values)

    print("| | random fetch, rows/s (of raw) | partition fetch, MB/s (of raw) | write-back, MB/s (of raw) "
          "| written a byte: a pool's rows, whole partitions, rows from anywhere | index and filters, bytes a row |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in VARIANTS:
        random_rows = median(name, "measured", "random fetch", "rows_per_second")
        cells = [f"{random_rows:,.0f} ({median(name, 'measured', 'random fetch', 'ratio'):.2f})"]
        for measured in ("partition fetch", "partition write-back"):
            rate = median(name, "measured", measured, "bytes_per_second") / 1e6
            cells.append(f"{rate:,.0f} ({median(name, 'measured', measured, 'ratio'):.2f})")
        patterns = ("a pool's rows", "whole partitions", "rows from anywhere") if arguments.churn > 0 else ()
        amplification = [median(name, "write_amplification", pattern, "written_per_accepted") for pattern in patterns]
        cells.append(", ".join(f"{value:.1f}" for value in amplification) or "-")
        cells.append(f"{median(name, 'memory_bytes') / arguments.rows:.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
