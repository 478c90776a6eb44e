"""`myriad-worker train` as a launcher starts it, by torchrun's environment: its run folder, its trace, and its exit codes when a peer or a
shard is lost."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import unittest

import local_run

MYRIAD, SERVER, WORKER = sys.argv[1:4]
FOLDER = pathlib.Path(os.environ["TEST_TMPDIR"])
# From the moment that a process is lost to the end of the others.
LOSS_SECONDS = 60


def stop(process):
    process.kill()
    process.wait()


class WorkerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        local_run.adopt_orphans()
        local_run.make_glyphs(MYRIAD, FOLDER / "glyphs")
        cls.job = local_run.write_job(FOLDER / "job.textproto", FOLDER / "glyphs")
        cls.endless = local_run.write_job(FOLDER / "endless.textproto", FOLDER / "glyphs", steps=1000000)

    def setUp(self):
        self.start_server()

    def start_server(self):
        """A shard."""
        server = local_run.Server(SERVER, "--threads", "1")
        self.server, self.address = server.process, server.address
        self.addCleanup(stop, self.server)

    def start(self, name, count, job=None, arguments=(), environment=None):
        """The ranks of a run into the folder `name`, each with its output in a pipe."""
        ranks = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for rank in range(count):
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1",
                         "MASTER_PORT": listener.getsockname()[1], **(environment or {})}
                # Rank 0 accepts where the port is held already: nobody else can take it in between.
                store = ["--store-fd", str(listener.fileno())] if rank == 0 else []
                ranks.append(subprocess.Popen(
                    [WORKER, "train", "--config", job or self.job, "--run-dir", FOLDER / name, "--shards", self.address, "--threads", "1",
                     *store, *arguments],
                    env={**os.environ, **{key: str(value) for key, value in place.items()}}, pass_fds=[listener.fileno()] if store else [],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
                self.addCleanup(stop, ranks[-1])
        return ranks

    def finish(self, ranks):
        """Exit codes and what each said on stderr."""
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
        return [rank.returncode for rank in ranks], errors

    def start_endless(self, name, count):
        ranks = self.start(name, count, self.endless)
        for line in ranks[0].stdout:
            if line.startswith("step "):
                return ranks
        self.fail(f"no step was told: {ranks[0].stderr.read()}")

    def test_a_run_and_its_trace(self):
        codes, errors = self.finish(self.start("run", 2, arguments=["--trace"]))
        self.assertEqual(codes, [0, 0], errors)
        for name in ("config.textproto", "metrics.jsonl", "backbone.safetensors", "head/made/head.textproto"):
            self.assertTrue((FOLDER / "run" / name).exists(), name)
        for rank in range(2):
            events = json.loads((FOLDER / f"run/logs/trace-{rank}.json").read_text())["traceEvents"]
            self.assertEqual({event["pid"] for event in events}, {rank})
            spans = {name: [(event["ts"], event["ts"] + event["dur"]) for event in events if event["name"].startswith(name)]
                     for name in ("forward", "head step", "backward", "reduce bucket", "optimizer")}
            self.assertEqual(len(spans["forward"]), 8)
            self.assertTrue(all(spans.values()), spans.keys())
            # Buckets are on their way while backward runs.
            self.assertTrue(any(start < bucket < end for bucket, _ in spans["reduce bucket"] for start, end in spans["backward"]))

    def test_a_folder_with_another_runs_results_is_refused(self):
        self.assertEqual(self.finish(self.start("taken", 1))[0], [0])
        before = (FOLDER / "taken/metrics.jsonl").read_bytes()
        codes, errors = self.finish(self.start("taken", 1))
        self.assertEqual(codes, [1])
        self.assertEqual(errors, [f"myriad-worker: {FOLDER}/taken/metrics.jsonl is of another run; name another run folder\n"])
        self.assertEqual((FOLDER / "taken/metrics.jsonl").read_bytes(), before)

    def test_a_trace_that_cannot_be_written_costs_only_the_trace(self):
        (FOLDER / "untraced/logs/trace-0.json").mkdir(parents=True)
        codes, errors = self.finish(self.start("untraced", 1, arguments=["--trace"]))
        self.assertEqual(codes, [1])
        self.assertIn("trace-0.json", errors[0])
        self.assertTrue((FOLDER / "untraced/backbone.safetensors").exists())
        self.assertTrue((FOLDER / "untraced/head/made/head.textproto").exists())

    def test_a_place_that_cannot_be_is_refused(self):
        for variable, value in (("MASTER_PORT", 70000), ("RANK", 2), ("WORLD_SIZE", "two")):
            codes, errors = self.finish(self.start("nowhere", 1, environment={variable: value}))
            self.assertEqual(codes, [1])
            self.assertTrue(errors[0].startswith(f'myriad-worker: {variable} is "{value}"; it must be a number in ['), errors[0])
        self.assertFalse((FOLDER / "nowhere").exists())

    def test_a_lost_worker_ends_the_others_with_the_documented_code(self):
        for lost in (0, 2):
            with self.subTest(lost=lost):
                # The rows of the run before are of no use to this one.
                self.start_server()
                ranks = self.start_endless(f"lost-{lost}", 3)
                ranks[lost].kill()
                killed = time.monotonic()
                codes, errors = self.finish(ranks)
                self.assertLess(time.monotonic() - killed, LOSS_SECONDS)
                self.assertEqual(codes, [-signal.SIGKILL if rank == lost else 3 for rank in range(3)], errors)
                for rank in {0, 1, 2} - {lost}:
                    self.assertRegex(errors[rank], r"^(myriad-worker: .*\n)+$", "lines for people, no stack trace")

    def test_a_lost_shard_ends_all_workers_with_the_documented_code(self):
        ranks = self.start_endless("shardless", 2)
        self.server.kill()
        killed = time.monotonic()
        codes, errors = self.finish(ranks)
        self.assertLess(time.monotonic() - killed, LOSS_SECONDS)
        self.assertEqual(codes, [3, 3], errors)
        self.assertTrue(any(f"shard 0 ({self.address})" in error for error in errors), errors)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
