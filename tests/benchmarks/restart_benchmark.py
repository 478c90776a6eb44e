#!/usr/bin/env python3
"""How long a shard takes to save a head of which all rows lie on disk, to stop, and to come back: after a clean stop, and after kill -9.

    tests/benchmarks/restart_benchmark.py --server bazel-bin/server/myriad-server --store /data --classes 10000000
"""
import argparse
import contextlib
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))
from train_ten_steps_test import generate_stubs  # noqa: E402

BATCH, SAMPLES = 256, 16384


class Shard:
    """A server over the store; `seconds` until it served."""

    def __init__(self, arguments):
        start = time.monotonic()
        self.process = subprocess.Popen([arguments.server, "--listen", "127.0.0.1:0", "--store", arguments.store, "--memory", arguments.memory],
                                        stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if told := re.search(r" serves on (\S+) with ", line):
                self.address = told[1]
                break
        else:
            sys.exit(f"myriad-server ended with {self.process.wait()} before it served")
        self.seconds = time.monotonic() - start

    def end(self, with_signal):
        """Seconds until it was gone."""
        start = time.monotonic()
        self.process.send_signal(with_signal)
        self.process.wait()
        return time.monotonic() - start


class Run:
    """A run of one rank against one shard."""

    def __init__(self, arguments, shard, **options):
        import grpc
        from myriad.v1 import center_shard_pb2, center_shard_pb2_grpc, head_pb2, matrix_pb2, shard_admin_pb2, shard_admin_pb2_grpc
        self.pb, self.matrix, self.admin_pb = center_shard_pb2, matrix_pb2, shard_admin_pb2
        channel = grpc.insecure_channel(shard.address, options=[("grpc.max_receive_message_length", -1)])
        self.shard, self.admin = center_shard_pb2_grpc.CenterShardStub(channel), shard_admin_pb2_grpc.ShardAdminStub(channel)
        bf16 = matrix_pb2.DATA_TYPE_BFLOAT16
        self.spec = head_pb2.HeadSpec(name="bench", class_count=arguments.classes, embedding_dim=arguments.dim, initial_deviation=0.01,
                                      weight_dtype=bf16, slot_dtype=bf16, sgd_slots=head_pb2.SgdSlots())
        training = head_pb2.TrainingSpec(cosface=head_pb2.CosFaceMargin(margin=0.35), scale=32.0, placement=head_pb2.PLACEMENT_SHARD,
                                         uniform=head_pb2.UniformSampler(sample_count=SAMPLES), sgd=head_pb2.SgdOptimizer(momentum=0.9))
        self.incarnation = time.time_ns()
        self.step_number = self.shard.OpenHead(center_shard_pb2.OpenHeadRequest(
            head=self.spec, training=training, incarnation=self.incarnation, shard_index=0, shard_addresses=[shard.address], rank_count=1,
            **options), timeout=60).committed_steps

    def steps(self, count):
        for _ in range(count):
            embeddings = struct.pack(f"<{BATCH * self.spec.embedding_dim}f", *(random.gauss(0, 1) for _ in range(BATCH * self.spec.embedding_dim)))
            labels = struct.pack(f"<{BATCH}q", *(random.randrange(self.spec.class_count) for _ in range(BATCH)))
            self.shard.HeadStep(self.pb.HeadStepRequest(
                key=self.pb.StepKey(head=self.spec.name, incarnation=self.incarnation, step=self.step_number), rank=0,
                mode=self.pb.STEP_MODE_TRAIN, parameters=self.pb.StepParameters(learning_rate=0.1),
                embeddings=self.matrix.Matrix(dtype=self.matrix.DATA_TYPE_FLOAT32, rows=BATCH, cols=self.spec.embedding_dim, data=embeddings),
                labels=labels), timeout=60)
            self.step_number += 1

    def rows(self):
        reply = self.admin.GetStatistics(self.admin_pb.GetStatisticsRequest(), timeout=60)
        return next(head.row_count for head in reply.heads if head.head == self.spec.name)

    def save(self, name):
        start = time.monotonic()
        self.admin.SaveHead(self.admin_pb.SaveHeadRequest(head=self.spec.name, incarnation=self.incarnation, step=self.step_number, save=name),
                            timeout=600)
        return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--server", default="bazel-bin/server/myriad-server")
    parser.add_argument("--store", required=True, help="a folder that does not exist; what is made there stays")
    parser.add_argument("--classes", type=int, default=10000000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    if os.path.exists(arguments.store):
        sys.exit(f"{arguments.store} is there already")
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(ROOT):
            generate_stubs(folder)
        sys.path.insert(0, folder)
        shard = Shard(arguments)
        run = Run(arguments, shard)
        stored = run.admin.StoreVirtualRows(run.admin_pb.StoreVirtualRowsRequest(head="bench"), timeout=3600)
        print(f"{stored.rows} rows of {stored.record_bytes} bytes on disk after {stored.seconds:.1f} s", flush=True)
        run.steps(arguments.steps)
        print(f"save after {arguments.steps} steps of {SAMPLES} rows: {run.save('first'):.2f} s", flush=True)
        print(f"save of the same rows: {run.save('second'):.2f} s", flush=True)
        run.steps(arguments.steps)
        print(f"clean stop after {arguments.steps} steps more: {shard.end(signal.SIGTERM):.2f} s", flush=True)
        shard = Shard(arguments)
        print(f"serves again after {shard.seconds:.2f} s", flush=True)
        run = Run(arguments, shard, expected_step=2 * arguments.steps)
        if run.rows() != arguments.classes:
            sys.exit(f"{run.rows()} rows exist, not {arguments.classes}")
        run.steps(arguments.steps)
        shard.end(signal.SIGKILL)
        shard = Shard(arguments)
        print(f"serves after kill -9, every record read and verified, after {shard.seconds:.2f} s", flush=True)
        run = Run(arguments, shard, accept_mixed_steps=True)
        if run.rows() != arguments.classes:
            sys.exit(f"{run.rows()} rows exist, not {arguments.classes}")
        run.steps(1)
        shard.end(signal.SIGTERM)


if __name__ == "__main__":
    main()
