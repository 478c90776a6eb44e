"""Long runs of real processes: hundreds of steps repeat bit for bit at both placements, and whichever process is killed, and whenever, the
run ends with the documented code and leaves nothing behind."""
import os
import pathlib
import random
import signal
import sys
import time
import unittest

import local_run

MYRIAD = sys.argv[1]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
STEPS = 500
KILLS = 12
# From the moment that a process stops working to the end of the command.
LOSS_SECONDS = 60


class SoakTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()
        local_run.make_glyphs(MYRIAD, FOLDER / "glyphs")

    def tearDown(self):
        local_run.assert_none_left(self)

    def start(self, name, *arguments, steps=STEPS):
        job = local_run.write_job(FOLDER / f"{name}.textproto", FOLDER / "glyphs", "local { shards: 3 workers: 3 }", steps)
        return local_run.Run(MYRIAD, "--config", job, "--run-dir", FOLDER / name, *arguments)

    def test_hundreds_of_steps_repeat_bit_for_bit(self):
        cases = {"at-shard": ["--set", "training.accumulation=2", "--set", "datasets[0].augmentation.max_shift=0.1"],
                 "at-worker": ["--set", "heads[0].training.placement=PLACEMENT_WORKER", "--set", "training.reader_threads=3"]}
        for case, arguments in cases.items():
            with self.subTest(case):
                for name in ("first", "again"):
                    run = self.start(f"{case}-{name}", *arguments)
                    self.assertEqual(run.finish(timeout=600), 0, run.errors)
                local_run.assert_same_results(self, FOLDER / f"{case}-first", FOLDER / f"{case}-again", STEPS)

    def test_any_process_may_be_killed_at_any_time(self):
        draw = random.Random(4)
        for kill in range(KILLS):
            rank = draw.choice([None, 0, 1, 2])
            with self.subTest(kill=kill, rank=rank):
                run = self.start(f"kill-{kill}", steps=1000000)
                for _ in range(draw.randrange(1, 30)):
                    run.wait_for_step()
                program = "myriad-server" if rank is None else "myriad-worker"
                os.kill(local_run.child(run.process.pid, program, rank), signal.SIGKILL)
                self.assertEqual(run.finish(timeout=300), 3, run.errors)
                local_run.assert_none_left(self)

    def test_a_shard_that_is_frozen_and_not_dead_ends_the_run_too(self):
        # Its sockets stay open and take what is sent: only that it answers no ping tells.
        run = self.start("frozen", steps=1000000)
        run.wait_for_step()
        os.kill(local_run.child(run.process.pid, "myriad-server"), signal.SIGSTOP)
        frozen = time.monotonic()
        self.assertEqual(run.finish(timeout=300), 3, run.errors)
        self.assertLess(time.monotonic() - frozen, LOSS_SECONDS)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
