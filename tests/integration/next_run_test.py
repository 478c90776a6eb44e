"""`myriad train` on what an earlier run has left: its rows, under the same class ids, and its network."""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import numpy

import local_run

MYRIAD, SERVER = sys.argv[1:3]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
SIZE = local_run.SIZE


def make_images(folder, names):
    """Four grey pictures of each identity."""
    folder.mkdir()
    random = numpy.random.default_rng(len(names))
    count = 4 * len(names)
    (folder / "train.images").write_bytes(random.integers(0, 256, count * SIZE * SIZE, dtype=numpy.uint8).tobytes())
    (folder / "train.labels").write_bytes(numpy.repeat(numpy.arange(len(names)), 4).astype("<i8").tobytes())
    (folder / "train.identities.tsv").write_text("".join(f"{name}\n" for name in names))
    (folder / "dataset.json").write_text(f"""{{"version": 1, "image_size": {SIZE}, "channels": 1, "encoding": "raw", "splits": {{"train": {{
        "count": {count}, "images": "train.images", "labels": "train.labels", "identities": "train.identities.tsv"}}}}}}""")
    return folder


class NextRunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()
        cls.first_data = make_images(FOLDER / "first-data", ["ann", "cid"])
        # bob's name lies between theirs; cid has no image.
        cls.next_data = make_images(FOLDER / "next-data", ["ann", "bob"])

    def tearDown(self):
        local_run.assert_none_left(self)

    def train(self, name, data, *arguments, code=0):
        job = local_run.write_job(FOLDER / f"{name}.textproto", data, steps=4)
        run = local_run.Run(MYRIAD, "--config", job, "--run-dir", FOLDER / name, "--set", "training.batch_size=8", "--set",
                            "heads[0].training.uniform.sample_count=0", *arguments)
        self.assertEqual(run.finish(timeout=120), code, run.errors)
        return run

    def grow(self, store, new_names, catalogue):
        (FOLDER / "new-names.txt").write_text(new_names)
        with local_run.Server(SERVER, "--store", store / "shard-0") as server:
            subprocess.run([MYRIAD, "admin", "grow", "--shards", server.address, "--identities", FOLDER / "new-names.txt", "--catalogue",
                            catalogue], check=True, stdout=subprocess.DEVNULL)

    def test_classes_of_a_grown_head_train_their_own_rows(self):
        self.train("first", self.first_data)
        store = FOLDER / "first/store"
        self.assertEqual((store / "made.identities.tsv").read_text(), "ann\ncid\n")
        shutil.copytree(store, FOLDER / "forgetful")
        self.grow(store, "bob\n", store / "made.identities.tsv")
        self.train("second", self.next_data, "--set", f'local.store="{store}"')
        self.assertEqual((FOLDER / "second/head/made/identities.tsv").read_text(), "ann\ncid\nbob\n")
        before, after = local_run.rows_of(FOLDER / "first"), local_run.rows_of(FOLDER / "second")
        self.assertEqual(sorted(before), [0, 1])
        self.assertEqual(sorted(after), [0, 1, 2])
        self.assertNotEqual(before[0], after[0], "ann was trained")
        self.assertEqual(before[1], after[1], "cid was not")

        # Grown by another catalogue than the store's: the run folder's.
        store = FOLDER / "forgetful"
        grown = FOLDER / "first/head/made/identities.tsv"
        self.grow(store, "bob\n", grown)
        refused = self.train("refused", self.next_data, "--set", f'local.store="{store}"', code=1)
        self.assertIn(f"only 2 names are known ({store}/made.identities.tsv): name the catalogue", refused.errors)
        self.train("told", self.next_data, "--set", f'local.store="{store}"', "--set", f'heads[0].catalogue="{grown}"')
        self.assertEqual(local_run.rows_of(FOLDER / "told"), after)
        self.assertEqual((store / "made.identities.tsv").read_text(), "ann\ncid\nbob\n")

    def test_rows_of_which_nobody_says_whose_they_are_are_not_trained(self):
        self.train("nameless", self.first_data)
        store = FOLDER / "nameless/store"
        (store / "made.identities.tsv").unlink()
        refused = self.train("guess", self.first_data, "--set", f'local.store="{store}"', code=1)
        self.assertIn(f"the shards have rows of head made already (2, at step 4, 2 classes), and {store}/made.identities.tsv, which would say",
                      refused.errors)
        self.assertFalse((FOLDER / "guess").exists())

    def test_rows_may_stay_in_the_store(self):
        self.train("with-rows", self.first_data)
        self.train("bare", self.first_data, "--set", "training.final_rows=FINAL_ROWS_NONE")
        self.assertEqual(sorted(path.name for path in (FOLDER / "bare/head/made").iterdir()), ["head.textproto", "identities.tsv"])
        self.assertIn("row_count: 2\n", (FOLDER / "bare/head/made/head.textproto").read_text())
        out = FOLDER / "exported/head/made"
        subprocess.run([MYRIAD, "admin", "export", "--store", FOLDER / "bare/store", "--out", out, "--slots"], check=True,
                       stdout=subprocess.DEVNULL)
        self.assertEqual(local_run.rows_of(FOLDER / "exported"), local_run.rows_of(FOLDER / "with-rows"))
        asked = subprocess.run([MYRIAD, "query", "centers", "--run", FOLDER / "bare", "--classes", "0"], stderr=subprocess.PIPE, text=True)
        self.assertEqual(asked.returncode, 1)
        self.assertIn("the run left its rows with the shards (training.final_rows)", asked.stderr)
        refused = self.train("nowhere", self.first_data, "--set", "training.final_rows=FINAL_ROWS_NONE", "--set", "training.keep_saves=0",
                             code=1)
        self.assertIn("nothing would be left of them; set local.store", refused.errors)

    def test_the_network_of_a_run_is_what_the_next_one_starts_from(self):
        self.train("teacher", self.first_data)
        weights = FOLDER / "teacher/backbone.safetensors"
        still = ("--set", "schedule.learning_rate=1e-30", "--set", "seed=5")
        self.train("pupil", self.next_data, *still, "--set", f'backbone.initial_weights="{weights}"')
        self.train("stranger", self.next_data, *still)
        teacher, pupil, stranger = (local_run.load_tensors(FOLDER / name / "backbone.safetensors")
                                    for name in ("teacher", "pupil", "stranger"))
        parameters = [name for name in teacher if "running_" not in name and "num_batches" not in name]
        for name in parameters:
            self.assertEqual(teacher[name].tobytes(), pupil[name].tobytes(), name)
        self.assertTrue(any(teacher[name].tobytes() != stranger[name].tobytes() for name in parameters))
        # It is read once: a run that goes on has its own.
        moved = FOLDER / "teacher/moved"
        weights.rename(moved)
        run = local_run.Run(MYRIAD, "--resume", "--run-dir", FOLDER / "pupil", "--set", "training.steps=5")
        self.assertEqual(run.finish(timeout=120), 0, run.errors)
        missing = self.train("orphan", self.next_data, "--set", f'backbone.initial_weights="{weights}"', code=1)
        self.assertIn(f"backbone.initial_weights: {weights}: No such file or directory", missing.errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
