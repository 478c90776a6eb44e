#!/usr/bin/env python3
"""Trains a head ten steps against a running shard with nothing of Myriad but its .proto files, and checks every number.

  protoc -I proto --python_out=STUBS --grpc_out=STUBS --plugin=protoc-gen-grpc=$(which grpc_python_plugin) proto/myriad/v1/*.proto
  PYTHONPATH=STUBS train_ten_steps.py HOST:PORT
"""
import sys

import grpc
import torch
from myriad.v1 import center_shard_pb2, center_shard_pb2_grpc, head_pb2, matrix_pb2, shard_admin_pb2, shard_admin_pb2_grpc

CLASSES, DIM, BATCH, STEPS = 997, 48, 33, 10
SCALE, MARGIN, RATE, MOMENTUM, DECAY = 32.0, 0.35, 0.1, 0.9, 5e-4


def matrix(values):
    """A float32 message of a tensor (rows x cols)."""
    data = values.to(torch.float32).contiguous().numpy().tobytes()
    return matrix_pb2.Matrix(dtype=matrix_pb2.DATA_TYPE_FLOAT32, rows=values.shape[0], cols=values.shape[1], data=data)


def tensor(message):
    return torch.frombuffer(bytearray(message.data), dtype=torch.float32).reshape(message.rows, message.cols).double()


def int64_bytes(values):
    return torch.as_tensor(values, dtype=torch.int64).numpy().tobytes()


def close(name, got, expected, tolerance):
    """Errors are measured against the largest element, as float32 drifts."""
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    if not error <= tolerance:
        sys.exit(f"{name}: relative error {error:.3g} is over {tolerance:.3g}")
    return error


def oracle_step(weights, momentum, embeddings, labels):
    """One step of a plain CosFace head in float64; returns loss and dX, moves weights and momentum."""
    w, x = weights.clone().requires_grad_(), embeddings.clone().requires_grad_()
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(w).T
    cosine = cosine - MARGIN * torch.nn.functional.one_hot(labels, CLASSES)
    loss = torch.nn.functional.cross_entropy(SCALE * cosine, labels)
    loss.backward()
    momentum.mul_(MOMENTUM).add_(w.grad + DECAY * weights)
    weights.sub_(RATE * momentum)
    return loss.detach(), x.grad


def read_rows(admin, head):
    weights, momentum = torch.zeros(CLASSES, DIM).double(), torch.zeros(CLASSES, DIM).double()
    for part in admin.ReadRows(shard_admin_pb2.ReadRowsRequest(head=head, with_slots=True), timeout=30):
        ids = torch.frombuffer(bytearray(part.class_ids), dtype=torch.int64)
        weights[ids], momentum[ids] = tensor(part.centers), tensor(part.slots)
    return weights, momentum


def main(address):
    channel = grpc.insecure_channel(address)
    shard, admin = center_shard_pb2_grpc.CenterShardStub(channel), shard_admin_pb2_grpc.ShardAdminStub(channel)
    spec = head_pb2.HeadSpec(name="interop", class_count=CLASSES, embedding_dim=DIM, seed=7, initial_deviation=0.01,
                             sgd_slots=head_pb2.SgdSlots())
    training = head_pb2.TrainingSpec(
        cosface=head_pb2.CosFaceMargin(margin=MARGIN), scale=SCALE, all=head_pb2.AllSampler(), placement=head_pb2.PLACEMENT_SHARD,
        sgd=head_pb2.SgdOptimizer(momentum=MOMENTUM, weight_decay=DECAY))
    opened = shard.OpenHead(center_shard_pb2.OpenHeadRequest(
        head=spec, training=training, incarnation=1, shard_index=0, shard_addresses=[address], rank_count=1), timeout=30)

    torch.manual_seed(1)
    weights = (0.05 * torch.randn(CLASSES, DIM)).double()
    momentum = torch.zeros_like(weights)
    admin.WriteRows(shard_admin_pb2.WriteRowsRequest(
        head=spec.name, class_ids=int64_bytes(range(CLASSES)), centers=matrix(weights)), timeout=30)
    first = weights.clone()
    for step in range(opened.committed_steps, opened.committed_steps + STEPS):
        embeddings, labels = torch.randn(BATCH, DIM).double(), torch.randint(CLASSES, (BATCH,))
        reply = shard.HeadStep(center_shard_pb2.HeadStepRequest(
            key=center_shard_pb2.StepKey(head=spec.name, incarnation=1, step=step), rank=0, mode=center_shard_pb2.STEP_MODE_TRAIN,
            parameters=center_shard_pb2.StepParameters(learning_rate=RATE), embeddings=matrix(embeddings),
            labels=int64_bytes(labels)), timeout=30)
        loss, gradients = oracle_step(weights, momentum, embeddings, labels)
        close(f"loss of step {step}", torch.tensor(reply.statistics.loss).double(), loss, 1e-6)
        close(f"dX of step {step}", tensor(reply.embedding_gradients), gradients, 1e-5)
    moved_weights, moved_momentum = read_rows(admin, spec.name)
    weight_error = close("W", moved_weights, weights, 1e-5)
    close("momentum", moved_momentum, momentum, 1e-5)
    if torch.allclose(first, moved_weights):
        sys.exit("W has not moved")
    print(f"{STEPS} steps of {CLASSES} classes equal the oracle; W to {weight_error:.1g} of its largest element")


if __name__ == "__main__":
    main(sys.argv[1])
