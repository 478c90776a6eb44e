"""Rows that Python's PyTorch and safetensors wrote go into a head by `myriad admin import`, and what `myriad admin export` writes is what they
read."""
import collections
import os
import pathlib
import re
import subprocess
import sys
import unittest

import numpy
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors

MYRIAD, SERVER = sys.argv[1:3]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
CLASSES, DIM, RANKS = 1003, 24, 4


def spec(name, fields=""):
    path = FOLDER / f"{name}.textproto"
    path.write_text(f"name: '{name}' class_count: {CLASSES} embedding_dim: {DIM} seed: 5 {fields}\n")
    return path


def rank_sizes():
    return [CLASSES // RANKS + (rank < CLASSES % RANKS) for rank in range(RANKS)]


class AdminTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.servers = [subprocess.Popen([SERVER, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        cls.shards = ",".join(cls.address_of(server) for server in cls.servers)
        random = numpy.random.default_rng(8)
        cls.weights = random.normal(size=(CLASSES, DIM)).astype(numpy.float32)
        cls.momentum = random.normal(size=(CLASSES, DIM)).astype(numpy.float32)

    @staticmethod
    def address_of(server):
        for line in server.stdout:
            if told := re.search(r" serves on (\S+) with ", line):
                return told[1]
        raise AssertionError(f"myriad-server ended with {server.wait()} before it served")

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.terminate()
        for server in cls.servers:
            server.communicate(timeout=30)

    def admin(self, *arguments, code=0):
        done = subprocess.run([MYRIAD, "admin", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def import_rows(self, name, *arguments, fields=""):
        return self.admin("import", "--shards", self.shards, "--head-spec", spec(name, fields), *arguments)

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

    def test_a_run_folder_with_the_network_beside_checkpoints_of_network_head_and_optimizer(self):
        folder = FOLDER / "newer"
        folder.mkdir()
        starts = numpy.cumsum([0] + rank_sizes())
        network = torch.nn.Linear(3, 4)
        for rank in range(RANKS):
            # A view into all of W: the file holds the whole storage, the tensor begins inside.
            part = slice(starts[rank], starts[rank + 1])
            weight = torch.nn.Parameter(torch.from_numpy(self.weights)[part])
            optimizer = torch.optim.SGD([{"params": network.parameters()}, {"params": [weight]}], lr=0.0, momentum=0.9)
            network(torch.ones(2, 3)).sum().backward()
            weight.grad = torch.from_numpy(self.momentum[part].copy())
            optimizer.step()  # The first step's gradient is the momentum.
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
            torch.save({"epoch": 3, "global_step": 100, "state_dict_backbone": network.state_dict(),
                        "state_dict_softmax_fc": collections.OrderedDict(weight=weight), "state_optimizer": optimizer.state_dict(),
                        "state_lr_scheduler": scheduler.state_dict()}, folder / f"checkpoint_gpu_{rank}.pt")
        torch.save(network.state_dict(), folder / "model.pt")
        self.import_rows("newer", "--from", folder, "--slots")
        ids, weights, slots = self.export_rows("newer", "--slots")
        self.assertEqual(ids.tolist(), list(range(CLASSES)))
        numpy.testing.assert_array_equal(weights, self.weights)
        numpy.testing.assert_array_equal(slots, self.momentum)

    def test_heads_of_16_bits_go_out_and_into_another_bit_for_bit(self):
        save_file({"weights": self.weights, "slots": self.momentum}, FOLDER / "wide.safetensors")
        for weights_in, slots_in in (("BFLOAT16", "BFLOAT16"), ("FLOAT16", "FLOAT32"), ("FLOAT32", "BFLOAT16")):
            with self.subTest(weights=weights_in, slots=slots_in):
                fields = f"weight_dtype: DATA_TYPE_{weights_in} slot_dtype: DATA_TYPE_{slots_in}"
                first, second = (f"{name}-{weights_in}-{slots_in}" for name in ("first", "second"))
                self.assertIn(f"{CLASSES} read back and equal", self.import_rows(first, "--from", FOLDER / "wide.safetensors", "--slots", fields=fields))
                ids, weights, slots = self.export_rows(first, "--slots", "--dtype", "float32")
                self.assertEqual(ids.tolist(), list(range(CLASSES)))
                for found, given, dtype in ((weights, self.weights, weights_in), (slots, self.momentum, slots_in)):
                    nearest = torch.from_numpy(given).to(getattr(torch, dtype.lower())).float().numpy()
                    numpy.testing.assert_array_equal(found, nearest)

                out = [FOLDER / f"stored-{name}" for name in (first, second)]
                self.admin("export", "--shards", self.shards, "--head", first, "--out", out[0], "--slots")
                self.import_rows(second, "--from", out[0], "--slots", fields=fields)
                self.admin("export", "--shards", self.shards, "--head", second, "--out", out[1], "--slots")
                for k in range(2):
                    tensors = [load_tensors(folder / f"rows-{k:05d}-of-00002.safetensors") for folder in out]
                    self.assertEqual(sorted(tensors[0]), ["class_ids", "slots", "weights"])
                    for name in tensors[0]:
                        self.assertEqual(tensors[0][name].dtype, tensors[1][name].dtype)
                        self.assertTrue(torch.equal(tensors[0][name], tensors[1][name]), name)
        save_file({"weights": numpy.full((CLASSES, DIM), 7e4, dtype=numpy.float32)}, FOLDER / "large.safetensors")
        output = self.admin("import", "--shards", self.shards, "--head-spec", spec("large", "weight_dtype: DATA_TYPE_FLOAT16"), "--from",
                            FOLDER / "large.safetensors", code=1)
        self.assertIn("large.safetensors: row 0, class 0: number 0 is 70000; float16 holds 65504 at most", output)

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
