#!/usr/bin/env python3
"""The quickstart's training against the plain PyTorch loop, on the same data and machine, one after the other for each seed.

Run deploy/quickstart.sh first (it makes the data), and deploy/install.sh --python. Prints a line a seed, then the medians.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_myriad(seed, config, folder):
    """Wall seconds of the whole command, and the accuracy of its last verification."""
    run_dir = folder / f"run-{seed}"
    started = time.perf_counter()
    subprocess.run([ROOT / "bazel-bin/client/myriad", "train", "--config", config, "--set", f"seed={seed}", "--run-dir", run_dir],
                   cwd=ROOT, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return seconds, [line["accuracy"] for line in lines if "accuracy" in line][-1]


def run_plain(seed, data, epochs, folder):
    """Seconds until the loop first reached its target, or None."""
    figures = folder / f"plain-{seed}-{epochs}.json"
    subprocess.run([sys.executable, ROOT / "tests/benchmarks/plain_pytorch_loop.py", "--data", data, "--seed", str(seed),
                    "--epochs", str(epochs), "--stop-at-target", "--json", figures], check=True, stdout=sys.stderr)
    return json.loads(figures.read_text())["reached_seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "deploy/examples/quickstart.textproto")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "runs/data/glyphs")
    parser.add_argument("--plain-epochs", type=int, nargs="+", default=[8],
                        help="lengths of the loop's cosine schedule; the first to reach the target counts")
    arguments = parser.parse_args()

    seconds, accuracies, plain = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            taken, accuracy = run_myriad(seed, arguments.config.resolve(), pathlib.Path(folder))
            reached = [run_plain(seed, arguments.data, epochs, pathlib.Path(folder)) for epochs in arguments.plain_epochs]
            reached = min((r for r in reached if r is not None), default=float("inf"))
            print(f"seed {seed}: myriad {taken:.1f} s to accuracy {accuracy:.4f}; plain loop reaches 0.98 after {reached:.1f} s", flush=True)
            seconds.append(taken)
            accuracies.append(accuracy)
            plain.append(reached)
    print(f"median: myriad {statistics.median(seconds):.1f} s to accuracy {statistics.median(accuracies):.4f}; "
          f"plain loop {statistics.median(plain):.1f} s")


if __name__ == "__main__":
    main()
