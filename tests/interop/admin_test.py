"""Rows that Python's PyTorch and safetensors wrote go into a head by `myriad admin import`, and what `myriad admin export` writes is what they
read."""
import collections
import os
import pathlib
import subprocess
import sys
import time
import unittest

import numpy
import torch
from safetensors.numpy import load_file, save_file

MYRIAD, SERVER = sys.argv[1:3]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
CLASSES, DIM, RANKS = 1003, 24, 4


def spec(name):
    path = FOLDER / f"{name}.textproto"
    path.write_text(f"name: '{name}' class_count: {CLASSES} embedding_dim: {DIM} seed: 5\n")
    return path


def rank_sizes():
    return [CLASSES // RANKS + (rank < CLASSES % RANKS) for rank in range(RANKS)]


class AdminTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        files = [FOLDER / f"address-{k}" for k in range(2)]
        cls.servers = [subprocess.Popen([SERVER, "--listen", "127.0.0.1:0", "--address-file", file]) for file in files]
        while not all(file.exists() for file in files):
            if any(server.poll() is not None for server in cls.servers):
                raise AssertionError("myriad-server ended before it served")
            time.sleep(0.02)
        cls.shards = ",".join(file.read_text().strip() for file in files)
        random = numpy.random.default_rng(8)
        cls.weights = random.normal(size=(CLASSES, DIM)).astype(numpy.float32)
        cls.momentum = random.normal(size=(CLASSES, DIM)).astype(numpy.float32)

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.terminate()
        for server in cls.servers:
            server.wait(timeout=30)

    def admin(self, *arguments, code=0):
        done = subprocess.run([MYRIAD, "admin", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def import_rows(self, name, *arguments):
        return self.admin("import", "--shards", self.shards, "--head-spec", spec(name), *arguments)

    def export_rows(self, name, *arguments):
        """class_ids, weights and slots (or None), by ascending id."""
        out = FOLDER / f"out-{name}"
        self.admin("export", "--shards", self.shards, "--head", name, "--out", out, *arguments)
        files = [load_file(path) for path in sorted(out.glob("rows-*-of-00002.safetensors"))]
        self.assertEqual(len(files), 2)
        ids = numpy.concatenate([file["class_ids"] for file in files])
        order = ids.argsort()
        tensors = [numpy.concatenate([file[key] for file in files])[order] if key in files[0] else None for key in ("weights", "slots")]
        return ids[order], *tensors

    def test_partial_fc_files_of_a_weight_and_a_momentum_for_each_rank(self):
        folder = FOLDER / "older"
        folder.mkdir()
        starts = numpy.cumsum([0] + rank_sizes())
        for rank in range(RANKS):
            part = slice(starts[rank], starts[rank + 1])
            torch.save(torch.from_numpy(self.weights[part]), folder / f"rank_{rank}_softmax_weight.pt")
            torch.save(torch.from_numpy(self.momentum[part]), folder / f"rank_{rank}_softmax_weight_mom.pt")
        self.assertIn(f"imported {CLASSES} rows with slots from {RANKS} files into head older; {CLASSES} read back and equal",
                      self.import_rows("older", "--from", folder, "--slots"))
        ids, weights, slots = self.export_rows("older", "--slots")
        self.assertEqual(ids.tolist(), list(range(CLASSES)))
        numpy.testing.assert_array_equal(weights, self.weights)
        numpy.testing.assert_array_equal(slots, self.momentum)

    def test_checkpoints_with_network_and_optimizer_beside_the_head(self):
        folder = FOLDER / "newer"
        folder.mkdir()
        starts = numpy.cumsum([0] + rank_sizes())
        network = torch.nn.Linear(3, 4)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        network(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
        for rank in range(RANKS):
            # A view into all of W: the file holds the whole storage, the tensor begins inside.
            part = torch.from_numpy(self.weights)[starts[rank]:starts[rank + 1]]
            head = collections.OrderedDict(weight=torch.nn.Parameter(part))
            torch.save({"epoch": 3, "global_step": 100, "state_dict_backbone": network.state_dict(), "state_dict_softmax_fc": head,
                        "state_optimizer": optimizer.state_dict(), "state_lr_scheduler": scheduler.state_dict()},
                       folder / f"checkpoint_gpu_{rank}.pt")
        self.import_rows("newer", "--from", *sorted(folder.glob("*.pt"), reverse=True))
        ids, weights, _ = self.export_rows("newer")
        self.assertEqual(ids.tolist(), list(range(CLASSES)))
        numpy.testing.assert_array_equal(weights, self.weights)

    def test_a_matrix_of_halves_without_ids(self):
        halves = self.weights.astype(numpy.float16)
        save_file({"weights": halves}, FOLDER / "halves.safetensors")
        self.import_rows("halves", "--from", FOLDER / "halves.safetensors", "--verify", "sample")
        ids, weights, slots = self.export_rows("halves")
        self.assertEqual(ids.tolist(), list(range(CLASSES)))
        numpy.testing.assert_array_equal(weights, halves.astype(numpy.float32))
        self.assertIsNone(slots)

    def test_some_rows_by_id_and_a_file_of_halves_out(self):
        ids = numpy.array([1000, 3, 77], dtype=numpy.int64)
        save_file({"class_ids": ids, "weights": self.weights[:3]}, FOLDER / "some.safetensors")
        self.import_rows("some", "--from", FOLDER / "some.safetensors")
        found, weights, _ = self.export_rows("some", "--dtype", "float16")
        self.assertEqual(found.tolist(), [3, 77, 1000])
        self.assertEqual(weights.dtype, numpy.float16)
        numpy.testing.assert_array_equal(weights, self.weights[[1, 2, 0]].astype(numpy.float16))

    def test_what_a_file_would_run_is_not_run(self):
        touched = FOLDER / "touched"

        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {touched}",)

        torch.save({"weight": Evil()}, FOLDER / "evil_0.pt")
        output = self.admin("import", "--shards", self.shards, "--head-spec", spec("evil"), "--from", FOLDER / "evil_0.pt", code=1)
        self.assertIn("evil_0.pt: no tensor 'weight'", output)
        self.assertFalse(touched.exists())

    def test_pytorchs_older_format_is_refused_with_what_to_do(self):
        torch.save(torch.ones(CLASSES, DIM), FOLDER / "legacy_0.pt", _use_new_zipfile_serialization=False)
        output = self.admin("import", "--shards", self.shards, "--head-spec", spec("legacy"), "--from", FOLDER / "legacy_0.pt", code=1)
        self.assertIn("legacy_0.pt: not a file of torch.save() that can be read (PyTorch 1.6 or later writes those)", output)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
