"""`myriad train --resume` with its real servers and workers: a run that was stopped, killed or cut short and then goes on is, bit for bit, the
run that was not."""
import os
import pathlib
import re
import shutil
import signal
import sys
import unittest

import local_run

MYRIAD = sys.argv[1]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
STEPS = 200
# Saves are in the middle of a line of the metrics: 100 is no multiple of 7. Three ranks round a sum by where it lies in its bucket.
MORE = 'local { shards: 2 workers: 3 } schedule { learning_rate: 0.05 constant {} }'
SETTINGS = ("--set", "training.log_every_steps=7")


# A head of 41 MB on two shards that have some 6 MiB each for rows: most of them are on disk.
COLD = """
heads {{ spec {{ name: "made" class_count: 20000 embedding_dim: 512 weight_dtype: DATA_TYPE_BFLOAT16 slot_dtype: DATA_TYPE_BFLOAT16 }}
         training {{ {training} }} }}
datasets {{ path: "{data}" }}
backbone {{ small_resnet {{ width: 4 }} embedding_dim: 512 image_size: {size} channels: 1 }}
training {{ batch_size: 24 log_every_steps: 1 keep_saves: 1 final_rows: FINAL_ROWS_WEIGHTS_AND_SLOTS }}
schedule {{ learning_rate: 0.05 constant {{}} }}
local {{ shards: 2 memory: "144MiB" }}
"""


class ResumeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()
        local_run.make_glyphs(MYRIAD, FOLDER / "glyphs")
        cls.job = local_run.write_job(FOLDER / "job.textproto", FOLDER / "glyphs", MORE, steps=STEPS)
        cls.straight = FOLDER / "straight"
        run = cls.start("straight", "--set", "training.keep_saves=0")
        assert run.finish(timeout=300) == 0, run.errors
        assert not (cls.straight / "saves").exists() and not (cls.straight / "store").exists()

    def tearDown(self):
        local_run.assert_none_left(self)

    @classmethod
    def start(cls, name, *arguments):
        return local_run.Run(MYRIAD, "--config", cls.job, "--run-dir", FOLDER / name, *SETTINGS, *arguments)

    def resume(self, name, *arguments, code=0):
        run = local_run.Run(MYRIAD, "--resume", "--run-dir", FOLDER / name, *arguments)
        self.assertEqual(run.finish(timeout=300), code, run.errors)
        return run

    def kill_all(self, run):
        for pid in [run.process.pid] + local_run.children_of(run.process.pid):
            os.kill(pid, signal.SIGKILL)
        run.finish(timeout=300)
        local_run.reap_adopted()

    def saves(self, name):
        return sorted(folder.name for folder in (FOLDER / name / "saves").iterdir())

    def assert_is_the_straight_run(self, name):
        local_run.assert_same_results(self, self.straight, FOLDER / name, steps=-(-STEPS // 7))
        steps = [[line["step"] for line in local_run.metrics_of(run)] for run in (self.straight, FOLDER / name)]
        self.assertEqual(steps[0], steps[1])

    def test_a_run_that_was_stopped_goes_on_bit_for_bit(self):
        name = "stopped"
        run = self.start(name)
        run.wait_for_step()
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.finish(timeout=300), 130, run.errors)
        told = re.fullmatch(rf"myriad: interrupted; saved after step (\d+): ({FOLDER}/{name}/saves/step-\d+); "
                            rf"go on with: myriad train --resume --run-dir {FOLDER}/{name}\n", run.errors)
        self.assertTrue(told, run.errors)
        self.assertTrue(pathlib.Path(told[2], "manifest.textproto").exists())
        self.assertLess(int(told[1]), STEPS)
        self.assertIn(f"resumed after step {told[1]} from {told[2]}", self.resume(name).lines)
        self.assert_is_the_straight_run(name)

    def test_a_run_whose_processes_were_all_killed_goes_on_from_its_last_save(self):
        name = "killed"
        run = self.start(name, "--set", "training.save_every_steps=50")
        run.wait_for_step(at_least=110)
        self.kill_all(run)
        newest = sorted((FOLDER / name).glob("saves/*/manifest.textproto"))[-1].parent
        self.assertGreaterEqual(newest.name, "step-0000000100")
        # What the servers had on their disks by then is of several steps: whoever trains on from it has to say so.
        shutil.copytree(FOLDER / name / "store", FOLDER / "mixed")
        mixed = ("--set", f"local.store={FOLDER}/mixed", "--set", "training.steps=3")
        refused = self.start("refused", *mixed)
        self.assertEqual(refused.finish(timeout=300), 1)
        self.assertIn("go back to a save with --resume, or train on from them with --accept-mixed-steps", refused.errors)
        accepted = self.start("accepted", *mixed, "--accept-mixed-steps")
        self.assertEqual(accepted.finish(timeout=300), 0, accepted.errors)
        # One that was cut off: the files are there, the manifest is not.
        cut_off = FOLDER / name / "saves/step-0000000199"
        shutil.copytree(newest, cut_off)
        (cut_off / "manifest.textproto").rename(cut_off / "unfinished.textproto")
        self.assertIn(f"resumed after step {int(newest.name[5:])} from {newest}", self.resume(name).lines)
        self.assert_is_the_straight_run(name)
        # The last two of 50, 100, 150, 200 and the end; the same on the shards.
        self.assertEqual(self.saves(name), ["step-0000000150", "step-0000000200"])
        for shard in (0, 1):
            kept = sorted(folder.name for folder in (FOLDER / name / f"store/shard-{shard}/saves").iterdir())
            self.assertEqual([save.split(".")[0] for save in kept], ["step-0000000150", "step-0000000200"])

    def test_a_run_that_was_over_is_made_longer(self):
        name = "longer"
        run = self.start(name, "--set", "training.steps=100")
        self.assertEqual(run.finish(timeout=300), 0, run.errors)
        self.assertIn("a run that is resumed can change", self.resume(name, "--set", "seed=3", code=1).errors)
        self.assertIn("has head made on 2 shards; the command says 3", self.resume(name, "--shards", "3", code=1).errors)
        self.resume(name, "--set", f"training.steps={STEPS}")
        # The first run's last line was due because it was the last; all others agree.
        lines = {run_dir: {line["step"]: line["loss"] for line in local_run.metrics_of(run_dir)}
                 for run_dir in (self.straight, FOLDER / name)}
        del lines[FOLDER / name][100]
        del lines[FOLDER / name][105], lines[self.straight][105]
        self.assertEqual(lines[self.straight], lines[FOLDER / name])
        self.assertEqual(local_run.state_of(self.straight), local_run.state_of(FOLDER / name))

        # Nothing is left to do; with another number of workers there would be something.
        self.assertIn(f"resumed after step {STEPS}", "\n".join(self.resume(name).lines))
        self.resume(name, "--workers", "2", "--set", f"training.steps={STEPS + 10}")
        self.assertEqual(local_run.metrics_of(FOLDER / name)[-1]["step"], STEPS + 10)

    def test_rows_on_disk_go_on_bit_for_bit(self):
        uniform = "uniform { sample_count: 1000 }"
        for name, training in (("uniform", uniform), ("pool", "pool { sample_count: 1000 pool_size: 1200 rotated_rows: 200 }"),
                               ("exact", uniform + " idle_update: IDLE_UPDATE_EXACT")):
            with self.subTest(name):
                job = FOLDER / f"{name}.textproto"
                job.write_text(COLD.format(training=training, data=FOLDER / "glyphs", size=local_run.SIZE))
                straight, cut, killed = (FOLDER / f"{name}-{kind}" for kind in ("straight", "cut", "killed"))
                for run_dir, steps in ((straight, 100), (cut, 50)):
                    run = local_run.Run(MYRIAD, "--config", job, "--run-dir", run_dir, "--set", f"training.steps={steps}")
                    self.assertEqual(run.finish(timeout=300), 0, run.errors)
                self.resume(cut.name, "--set", "training.steps=100")
                self.assertGreater(len(local_run.rows_of(straight)), 15_000, "30 MB, where memory has room for 12")
                local_run.assert_same_results(self, straight, cut, steps=100)
                if name == "pool":
                    run = local_run.Run(MYRIAD, "--config", job, "--run-dir", killed, "--set", "training.steps=100", "--set",
                                        "training.save_every_steps=30")
                    run.wait_for_step(at_least=50)
                    self.kill_all(run)
                    self.resume(killed.name)
                    local_run.assert_same_results(self, straight, killed, steps=100)

    def test_a_run_without_a_save_is_not_resumed(self):
        self.assertIn(f"{self.straight}/saves has no save to go on from", self.resume("straight", code=1).errors)
        self.assertIn("no-such-run does not exist", self.resume("no-such-run", code=1).errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
