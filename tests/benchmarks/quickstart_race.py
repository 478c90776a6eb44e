#!/usr/bin/env python3
"""The quickstart's training against the plain PyTorch loop, on the same data and machine, one after the other for each seed.

Run deploy/quickstart.sh first (it makes the data), and deploy/install.sh --python. Prints a line a seed, then the medians.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_myriad(seed, config, target, folder, settings=()):
    """Trains with `settings` (as of --set). Wall seconds from the start of the command to the first verification that reaches `target` (None
    if none does) and to its end, and the accuracy of the last verification."""
    started, reached, accuracy = time.perf_counter(), None, 0.0
    command = [ROOT / "bazel-bin/client/myriad", "train", "--config", config, "--run-dir", folder / f"run-{seed}"]
    for setting in (f"seed={seed}", *settings):
        command += ["--set", setting]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            told = re.match(r"verification \S+ accuracy ([0-9.]+) ", line)
            if told:
                accuracy = float(told.group(1))
                if reached is None and accuracy >= target:
                    reached = time.perf_counter() - started
    if run.returncode != 0:
        sys.exit(f"myriad train ended with {run.returncode}")
    return reached, time.perf_counter() - started, accuracy


def run_plain(seed, data, epochs, target, folder):
    """Seconds until the loop first reached its target, or None."""
    figures = folder / f"plain-{seed}-{epochs}.json"
    subprocess.run([sys.executable, ROOT / "tests/benchmarks/plain_pytorch_loop.py", "--data", data, "--seed", str(seed),
                    "--epochs", str(epochs), "--target", str(target), "--stop-at-target", "--json", figures], check=True, stdout=sys.stderr)
    return json.loads(figures.read_text())["reached_seconds"]


def or_never(seconds):
    return float("inf") if seconds is None else seconds


def print_row(name, row, target):
    print("{}: accuracy {} after {:.1f} s (plain loop: {:.1f} s); the whole run {:.1f} s to {:.4f}".format(
        name, target, row[0], row[3], row[1], row[2]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "deploy/examples/quickstart.textproto")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "runs/data/glyphs")
    parser.add_argument("--target", type=float, default=0.98)
    parser.add_argument("--plain-epochs", type=int, nargs="+", default=[4],
                        help="lengths of the loop's cosine schedule; the first to reach the target counts")
    arguments = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            reached, seconds, accuracy = run_myriad(seed, arguments.config.resolve(), arguments.target, pathlib.Path(folder))
            plain = [run_plain(seed, arguments.data, epochs, arguments.target, pathlib.Path(folder)) for epochs in arguments.plain_epochs]
            rows.append((or_never(reached), seconds, accuracy, min(map(or_never, plain))))
            print_row(f"seed {seed}", rows[-1], arguments.target)
    print_row("median", [statistics.median(column) for column in zip(*rows)], arguments.target)


if __name__ == "__main__":
    main()
