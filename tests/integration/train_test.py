"""`myriad train` with its real servers and workers: glyphs and a class-folder tree to the end, and what becomes of a run whose processes are
killed or that is asked to stop. None of its processes is ever left."""
import os
import pathlib
import signal
import struct
import sys
import time
import unittest
import zlib

import local_run

MYRIAD = sys.argv[1]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
# From the moment that a process is killed to the end of the command.
LOSS_SECONDS = 60


def write_png(path, rows):
    """Grey, 8 bits."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


class TrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()
        local_run.make_glyphs(MYRIAD, FOLDER / "glyphs")
        cls.job = local_run.write_job(FOLDER / "glyphs.textproto", FOLDER / "glyphs",
                                      f'verifications {{ path: "{FOLDER}/glyphs" }} local {{ shards: 3 workers: 3 }}')

    def tearDown(self):
        local_run.assert_none_left(self)

    def train(self, name, *arguments, job=None):
        run = local_run.Run(MYRIAD, "--config", job or self.job, "--run-dir", FOLDER / name, *arguments)
        self.assertEqual(run.finish(timeout=300), 0, run.errors)
        return FOLDER / name, run.lines

    def start_endless(self, name):
        run = local_run.Run(MYRIAD, "--config", self.job, "--run-dir", FOLDER / name, "--set", "training.steps=1000000", "--set",
                            "verifications[0].every_epochs=1000000")
        run.wait_for_step()
        return run

    def test_three_shards_and_three_workers_repeat_bit_for_bit(self):
        runs = [self.train(name, "--set", f"seed={seed}", *flags) for name, seed, flags in
                (("first", 1, []), ("again", 1, ["--trace"]), ("other", 2, []))]
        local_run.assert_same_results(self, runs[0][0], runs[1][0], steps=8)
        path, lines = runs[0]
        state, other = local_run.state_of(path), local_run.state_of(runs[2][0])
        for name in ("fc.weight", "row 0"):
            self.assertNotEqual(state[name], other[name], name)
        self.assertEqual(sorted(local_run.rows_of(path)), list(range(24)))
        self.assertEqual(lines[-2], f"run folder {path}")
        self.assertRegex(lines[-1], r"^verification accuracy [01]\.\d{4}$")
        logs = {f"{kind}-{number}.log" for kind in ("server", "worker") for number in range(3)}
        self.assertEqual({file.name for file in (path / "logs").iterdir()}, logs)
        self.assertEqual({file.name for file in (runs[1][0] / "logs").iterdir()}, logs | {f"trace-{rank}.json" for rank in range(3)})

    def test_a_class_folder_tree_with_images_that_cannot_be_read(self):
        for c in range(6):
            folder = FOLDER / f"tree/person {c}"
            folder.mkdir(parents=True)
            for i in range(8):
                write_png(folder / f"{i}.png", [[(c * 40 + i + x * y) % 256 for x in range(40)] for y in range(30)])
        for broken in ("person 0/3.png", "person 4/0.png", "person 4/7.png"):
            (FOLDER / "tree" / broken).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        job = local_run.write_job(FOLDER / "tree.textproto", FOLDER / "tree", "local { shards: 1 workers: 2 }")
        run = local_run.Run(MYRIAD, "--config", job, "--run-dir", FOLDER / "strict")
        self.assertEqual(run.finish(timeout=300), 1)
        self.assertIn("tree/person ", run.errors)

        path, lines = self.train("tree-run", "--set", "training.steps=4", "--set", "datasets[0].skip_unreadable=true", job=job)
        steps = [line for line in local_run.metrics_of(path) if "loss" in line]
        self.assertEqual((len(steps), sum(line["skipped_count"] for line in steps)), (4, 6))
        self.assertEqual(sum(line["target_count"] for line in steps), 2 * (48 - 3))
        self.assertEqual(lines[-2:], ["skipped 6 images that cannot be read (in 4 steps, all workers)", f"run folder {path}"])
        self.assertEqual((path / "head/made/identities.tsv").read_text(), "".join(f"person {c}\n" for c in range(6)))
        self.assertEqual(sorted(local_run.rows_of(path)), list(range(6)))

    def test_a_killed_worker_or_server_ends_the_run_with_its_code(self):
        for program, rank in (("myriad-worker", 1), ("myriad-server", None)):
            with self.subTest(program=program, rank=rank):
                run = self.start_endless(f"killed-{program}-{rank}")
                os.kill(local_run.child(run.process.pid, program, rank), signal.SIGKILL)
                killed = time.monotonic()
                self.assertEqual(run.finish(timeout=300), 3, run.errors)
                self.assertLess(time.monotonic() - killed, LOSS_SECONDS)
                name = r"server-\d" if rank is None else f"worker-{rank}"
                self.assertRegex(run.errors, f"^myriad: {name} was killed by signal 9")
                local_run.assert_none_left(self)

    def test_a_request_to_stop_ends_the_run_after_its_step(self):
        run = self.start_endless("stopped")
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(run.finish(timeout=300), 130, run.errors)
        # The workers say so themselves: they took their step to its end.
        self.assertRegex((FOLDER / "stopped/logs/worker-0.log").read_text(), r"myriad-worker: interrupted after step \d+\n$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
