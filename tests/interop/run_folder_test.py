"""What a run leaves is what docs/formats.md says: Python reads all of it, and the network that it loads judges the held-out pairs as the run
did."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import unittest

import numpy
import torch
from google.protobuf import text_format
from safetensors import safe_open
from safetensors.numpy import load_file

MYRIAD, PLAIN_LOOP = sys.argv[1:3]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
CLASSES, PER_CLASS, SIZE, DIM, STEPS = 12, 10, 32, 24, 9
PAIRS = 200

CONFIG = f"""
heads {{ spec {{ name: "shapes" }} training {{ arcface {{ margin: 0.3 }} all {{}} }} }}
datasets {{ path: "{FOLDER}/data" }}
backbone {{ small_resnet {{ width: 8 }} embedding_dim: {DIM} }}
training {{ batch_size: 24 steps: {STEPS} log_every_steps: 1 }}
verifications {{ name: "unseen" path: "{FOLDER}/data" }}
local {{ shards: 3 workers: 2 }}
"""


def write_split(name, classes, random, pairs):
    """Noisy copies of one random picture a class."""
    pictures = random.integers(0, 256, (classes, SIZE, SIZE))
    images = numpy.concatenate([pictures[c] + random.normal(0, 60, (PER_CLASS, SIZE, SIZE)) for c in range(classes)])
    images.clip(0, 255).astype(numpy.uint8).tofile(FOLDER / f"data/{name}.images")
    numpy.repeat(numpy.arange(classes, dtype="<i8"), PER_CLASS).tofile(FOLDER / f"data/{name}.labels")
    (FOLDER / f"data/{name}.identities.tsv").write_text("".join(f"{name}-{c}\n" for c in range(classes)))
    split = {"count": classes * PER_CLASS, "images": f"{name}.images", "labels": f"{name}.labels",
             "identities": f"{name}.identities.tsv"}
    if pairs:
        lines = []
        for number in range(pairs):
            a = random.integers(classes)
            b = a if number % 2 else (a + random.integers(1, classes)) % classes
            first, second = random.permutation(PER_CLASS)[:2]
            lines.append(f"{a * PER_CLASS + first}\t{b * PER_CLASS + second}\t{int(a == b)}\n")
        (FOLDER / f"data/{name}.pairs.tsv").write_text("".join(lines))
        split["pairs"] = f"{name}.pairs.tsv"
    return split


def generate_messages(target):
    subprocess.run(["protoc", "-Iproto", f"--python_out={target}", "proto/myriad/v1/head.proto", "proto/myriad/v1/matrix.proto",
                    "proto/myriad/v1/center_shard.proto", "proto/myriad/config/v1/job.proto"], check=True)
    sys.path.insert(0, str(target))


class RunFolderTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        (FOLDER / "data").mkdir()
        random = numpy.random.default_rng(3)
        splits = {"train": write_split("train", CLASSES, random, 0), "eval": write_split("eval", 8, random, PAIRS)}
        (FOLDER / "data/dataset.json").write_text(json.dumps(
            {"version": 1, "image_size": SIZE, "channels": 1, "encoding": "raw", "splits": splits}))
        (FOLDER / "job.textproto").write_text(CONFIG)
        cls.run_dir = FOLDER / "run"
        done = subprocess.run([MYRIAD, "train", "--config", FOLDER / "job.textproto", "--run-dir", cls.run_dir], stdout=subprocess.PIPE, text=True)
        cls.output = done.stdout.splitlines()
        if done.returncode != 0:
            raise AssertionError(f"myriad train ended with {done.returncode}:\n{done.stdout}")
        cls.metrics = [json.loads(line) for line in (cls.run_dir / "metrics.jsonl").read_text().splitlines()]
        generate_messages(FOLDER)

    def test_rows_of_w(self):
        paths = sorted((self.run_dir / "head/shapes").glob("rows-*.safetensors"))
        self.assertEqual([path.name for path in paths], [f"rows-{k:05d}-of-00003.safetensors" for k in range(3)])
        centers = {}
        for path in paths:
            rows = load_file(path)
            self.assertEqual(rows.keys(), {"class_ids", "weights"})
            self.assertEqual((rows["weights"].dtype, rows["weights"].shape), (numpy.float32, (len(rows["class_ids"]), DIM)))
            self.assertTrue(numpy.isfinite(rows["weights"]).all() and (numpy.abs(rows["weights"]).max(axis=1) > 0).all())
            centers.update(zip(rows["class_ids"].tolist(), rows["weights"]))
            with safe_open(path, "numpy") as file:
                self.assertEqual(file.metadata(), {"head": "shapes", "committed_steps": str(STEPS)})
        self.assertEqual(sorted(centers), list(range(CLASSES)))
        identities = (self.run_dir / "head/shapes/identities.tsv").read_text().splitlines()
        self.assertEqual([line.split("\t")[0] for line in identities], [f"train-{c}" for c in range(CLASSES)])

    def test_texts_parse_as_their_messages(self):
        from myriad.config.v1 import job_pb2
        from myriad.v1 import center_shard_pb2
        info = text_format.Parse((self.run_dir / "head/shapes/head.textproto").read_text(), center_shard_pb2.HeadInfo())
        self.assertEqual((info.head.name, info.head.class_count, info.head.embedding_dim, info.committed_steps),
                         ("shapes", CLASSES, DIM, STEPS))
        job = text_format.Parse((self.run_dir / "config.textproto").read_text(), job_pb2.JobConfig())
        self.assertEqual((job.heads[0].training.arcface.margin, job.heads[0].training.scale, job.training.batch_size), (0.3, 32, 24))

    def test_metrics_tell_every_step(self):
        steps = [line for line in self.metrics if "loss" in line]
        self.assertEqual([line["step"] for line in steps], list(range(1, STEPS + 1)))
        for line in steps:
            self.assertTrue({"epoch", "learning_rate", "images_per_second", "target_cosine", "target_count", "row_count", "step_seconds",
                             "wait_head_seconds"} <= line.keys(), line)
            self.assertEqual((line["target_count"], line["row_count"], line["skipped_count"], line["degenerate_count"]), (24, CLASSES, 0, 0))

    def test_the_network_judges_pairs_as_the_run_did(self):
        spec = importlib.util.spec_from_file_location("plain_pytorch_loop", PLAIN_LOOP)
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        network = plain.SmallResNet(SIZE, 1, DIM, width=8)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(self.run_dir / "backbone.safetensors").items()})
        images, _, pairs = plain.load_split(FOLDER / "data", "eval")
        told = [line for line in self.metrics if line.get("verification") == "unseen"][-1]
        # A score within rounding of its threshold may fall on the other side.
        self.assertAlmostEqual(plain.verification_accuracy(network, images, pairs), told["accuracy"], delta=1.01 / PAIRS)
        self.assertGreater(told["accuracy"], 0.6)
        self.assertEqual(self.output[-1], f"verification accuracy {told['accuracy']:.4f}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
