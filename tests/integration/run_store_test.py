"""Somebody looks into a run that goes on, and does what `myriad admin` does with the rows that it left, without starting a server by hand."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

import numpy
from safetensors.numpy import load_file

import local_run

MYRIAD = sys.argv[1]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])


def rows_of(folder):
    """Class id -> weights and slots."""
    rows = {}
    for path in sorted(folder.glob("rows-*.safetensors")):
        tensors = load_file(path)
        for i, class_id in enumerate(tensors["class_ids"]):
            rows[int(class_id)] = numpy.concatenate([tensors["weights"][i], tensors["slots"][i]]).tobytes()
    return rows


class RunStoreTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()

    def tearDown(self):
        local_run.assert_none_left(self)

    def myriad(self, *arguments, code=0):
        done = subprocess.run([MYRIAD, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_its_servers_are_found_while_it_goes_on_and_its_store_serves_afterwards(self):
        local_run.make_glyphs(MYRIAD, FOLDER / "glyphs")
        job = local_run.write_job(FOLDER / "job.textproto", FOLDER / "glyphs", "local { shards: 2 workers: 1 }", steps=1000000)
        run_dir = FOLDER / "run"
        run = local_run.Run(MYRIAD, "--config", job, "--run-dir", run_dir)
        run.wait_for_step(at_least=3)
        addresses = (run_dir / "shards.txt").read_text().split()
        self.assertEqual(len(addresses), 2)
        self.assertIn("shards at " + ",".join(addresses), run.lines)
        stats = self.myriad("query", "stats", "--run", run_dir, "--coverage")
        for address in addresses:
            self.assertIn(f"head made on {address}", stats)
        self.assertRegex(self.myriad("query", "head", "--run", run_dir), r"classes +24\n")
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(run.finish(timeout=300), 130, run.errors)

        self.assertIn("no run goes on there", self.myriad("query", "stats", "--run", run_dir, code=1))
        store = run_dir / "store"
        self.assertIn(f"--store {store}", self.myriad("admin", "grow", "--run", run_dir, "--classes", "40", code=1))
        exported = self.myriad("admin", "export", "--store", store, "--out", FOLDER / "rows", "--slots")
        self.assertRegex(exported, r"exported \d+ rows of head made at step \d+")
        rows = rows_of(FOLDER / "rows")
        self.assertEqual(len(rows), int(re.search(r"exported (\d+)", exported).group(1)))

        # They go into a store that nobody has used yet, in one shard, and out again.
        (FOLDER / "seeded/shard-0").mkdir(parents=True)
        self.myriad("admin", "import", "--store", FOLDER / "seeded", "--head-spec", FOLDER / "rows/head-spec.textproto", "--from",
                    FOLDER / "rows", "--slots")
        self.myriad("admin", "export", "--store", FOLDER / "seeded", "--out", FOLDER / "again", "--slots")
        self.assertEqual(rows_of(FOLDER / "again"), rows)

        # A run of the same job goes on from them, at the step that the head stands at, once it is told whose they are.
        next_run = local_run.Run(MYRIAD, "--config", job, "--run-dir", FOLDER / "next", "--set", f'local.store="{FOLDER}/seeded"', "--set",
                                 "local.shards=1", "--set", "training.steps=2", "--set",
                                 f'heads[0].catalogue="{store}/made.identities.tsv"')
        self.assertEqual(next_run.finish(timeout=300), 0, next_run.errors)
        self.assertIn("committed_steps: 2\n", (FOLDER / "next/head/made/head.textproto").read_text())

        # What grew stays grown: the servers were stopped in order.
        self.assertIn("head made has 40 classes", self.myriad("admin", "grow", "--store", store, "--classes", "40"))
        self.assertIn("head made has 41 classes", self.myriad("admin", "grow", "--store", store, "--classes", "41", "--memory", "1GiB"))
        self.myriad("admin", "export", "--store", store, "--out", FOLDER / "grown", "--slots")
        self.assertEqual(rows_of(FOLDER / "grown"), rows)
        self.assertIn("class_count: 41", (FOLDER / "grown/head-spec.textproto").read_text())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
