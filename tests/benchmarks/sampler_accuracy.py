#!/usr/bin/env python3
"""What a sampler, or how rows are stored, does to the accuracy of the quickstart's training.

Run deploy/quickstart.sh first (it makes the data). Trains with each setting and seed, one after the other, and prints for each group of settings
a table: the verification accuracy at the end by seed, its mean, and how far that is from the mean of the group's first setting.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

from quickstart_race import ROOT, run_myriad

# The quickstart has 2,000 classes: a quarter of them is drawn, from a pool of half of them that is replaced in 32 steps, a fifth of an epoch.
GROUPS = {
    "sampler": {
        "uniform": ["heads[0].training.uniform={sample_count: 512}"],
        "pool": ["heads[0].training.pool={sample_count: 512 pool_size: 1024 rotated_rows: 32}"],
        "block": ["heads[0].training.block={sample_count: 512}"],
    },
    "dtype": {
        "float32": ["heads[0].training.uniform={sample_count: 512}"],
        "bfloat16 weights": ["heads[0].training.uniform={sample_count: 512}", "heads[0].spec.weight_dtype=DATA_TYPE_BFLOAT16"],
        "bfloat16 all": ["heads[0].training.uniform={sample_count: 512}", "heads[0].spec.weight_dtype=DATA_TYPE_BFLOAT16",
                         "heads[0].spec.slot_dtype=DATA_TYPE_BFLOAT16"],
    },
}


def accuracies(name, settings, seeds, config, folder, known):
    """The last verification accuracy of a run for each seed; `known` has those of earlier groups."""
    for seed in seeds:
        key = (*settings, seed)
        if key not in known:
            _, seconds, known[key] = run_myriad(seed, config, 1.0, folder / name.replace(" ", "-"), settings)
            print(f"{name}, seed {seed}: {known[key]:.4f} after {seconds:.1f} s", file=sys.stderr, flush=True)
    return [known[(*settings, seed)] for seed in seeds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "deploy/examples/quickstart.textproto")
    arguments = parser.parse_args()

    known = {}
    with tempfile.TemporaryDirectory() as folder:
        for group in arguments.groups:
            seeds = " | ".join(f"seed {seed}" for seed in arguments.seeds)
            print(f"\n| {group} | {seeds} | mean | against {next(iter(GROUPS[group]))} |\n|{' --- |' * (len(arguments.seeds) + 3)}", flush=True)
            baseline = None
            for name, settings in GROUPS[group].items():
                row = accuracies(name, settings, arguments.seeds, arguments.config.resolve(), pathlib.Path(folder), known)
                mean = statistics.mean(row)
                baseline = mean if baseline is None else baseline
                each = " | ".join(f"{accuracy:.4f}" for accuracy in row)
                print(f"| {name} | {each} | {mean:.4f} | {100 * (mean - baseline):+.2f} points |", flush=True)


if __name__ == "__main__":
    main()
