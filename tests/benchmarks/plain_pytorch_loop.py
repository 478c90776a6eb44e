#!/usr/bin/env python3
"""The quickstart's training as a plain PyTorch loop: one process, all of W beside the network, everything in memory.

What Myriad's quickstart is timed against: the network of worker/backbone/small_resnet.cc, CosFace s = 32 m = 0.35, SGD 0.1 / 0.9 / 5e-4,
batch 128, float32, 100 steps of warm-up, then cosine decay over 4 epochs. Prints time and verification accuracy after each epoch, and when
accuracy first reached the target.

  deploy/install.sh --python
  ~/.cache/myriad/python/bin/python tests/benchmarks/plain_pytorch_loop.py --data FOLDER_WITH_DATASET_JSON
"""
import argparse
import json
import math
import pathlib
import time

import numpy
import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, kernel, stride):
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.bn1, self.prelu1 = conv(inputs, outputs, 3, 2), nn.BatchNorm2d(outputs), nn.PReLU(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs)
        self.shortcut, self.prelu2 = conv(inputs, outputs, 1, 2), nn.PReLU(outputs)

    def forward(self, x):
        residual = self.bn2(self.conv2(self.prelu1(self.bn1(self.conv1(x)))))
        return self.prelu2(residual + self.shortcut(x))


class SmallResNet(nn.Module):
    def __init__(self, size, channels, dim, width=16):
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(channels, width, 3, 1), nn.BatchNorm2d(width), nn.PReLU(width)
        widths = [width << i for i in range(4)]
        for i, (inputs, outputs) in enumerate(zip([width] + widths, widths)):
            setattr(self, f"block{i + 1}", Block(inputs, outputs))
        side = math.ceil(size / 16)
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * side * side, dim)
        self.features = nn.BatchNorm1d(dim)
        self.features.weight.requires_grad_(False)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = block(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def load_split(folder, name):
    """Images as uint8 (n, channels, size, size), labels, and pairs if the split has them."""
    description = json.loads((folder / "dataset.json").read_text())
    if description["encoding"] != "raw":
        raise SystemExit(f"{folder}: images are {description['encoding']}; this loop reads raw")
    split, size, channels = description["splits"][name], description["image_size"], description["channels"]
    images = numpy.fromfile(folder / split["images"], dtype=numpy.uint8).reshape(split["count"], size, size, channels)
    labels = numpy.fromfile(folder / split["labels"], dtype="<i8")
    pairs = numpy.loadtxt(folder / split["pairs"], dtype=numpy.int64) if split.get("pairs") else None
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels), pairs


def normalize(images):
    return (images.float() / 255 - 0.5) / 0.5


def best_threshold(scores, same):
    """The threshold that judges most pairs right (score >= threshold: the same)."""
    order = numpy.argsort(-scores, kind="stable")
    right = numpy.cumsum(numpy.where(same[order], 1, -1))
    at = int(right.argmax())
    ordered = scores[order]
    return ordered[at] if at + 1 == len(ordered) else (ordered[at] + ordered[at + 1]) / 2


def verification_accuracy(network, images, pairs, folds=10):
    """Mean over ten folds of the accuracy on a fold with the threshold that is best on the other nine."""
    network.eval()
    with torch.no_grad():
        embeddings = torch.cat([functional.normalize(network(normalize(part))) for part in images.split(256)]).numpy()
    network.train()
    scores = (embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(1)
    same = pairs[:, 2] == 1
    accuracies = []
    for fold in numpy.split(numpy.arange(len(pairs)), folds):
        rest = numpy.setdiff1d(numpy.arange(len(pairs)), fold)
        accuracies.append(((scores[fold] >= best_threshold(scores[rest], same[rest])) == same[fold]).mean())
    return float(numpy.mean(accuracies))


def learning_rate(step, warmup_steps, total_steps):
    """Linear warm-up, then a half cosine to 0: as `schedule` of the quickstart's configuration."""
    if step < warmup_steps:
        return 0.1 * (step + 1) / warmup_steps
    return 0.1 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with dataset.json, splits train and eval, raw images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=0.98)
    parser.add_argument("--stop-at-target", action="store_true", help="end after the first epoch that reaches the target")
    parser.add_argument("--channels-last", action="store_true", help="keep an image's channels together, as Myriad does")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    images, labels, _ = load_split(arguments.data, "train")
    eval_images, _, pairs = load_split(arguments.data, "eval")
    if pairs is None:
        raise SystemExit(f"{arguments.data}: split eval has no pairs")
    classes = int(labels.max()) + 1
    network = SmallResNet(images.shape[2], images.shape[1], arguments.dim)
    if arguments.channels_last:
        network, images = network.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    centers = nn.Parameter(0.01 * torch.randn(classes, arguments.dim))
    parameters = [p for p in network.parameters() if p.requires_grad] + [centers]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps_per_epoch = len(images) // arguments.batch
    total_steps = arguments.epochs * steps_per_epoch
    print(f"torch {torch.__version__}, {len(images)} images, {classes} classes, "
          f"{sum(p.numel() for p in network.parameters())} parameters beside W, {arguments.threads} threads", flush=True)

    started, reached, epochs = time.perf_counter(), None, []
    for epoch in range(arguments.epochs):
        order = torch.randperm(len(images))
        for batch in range(steps_per_epoch):
            picked = order[batch * arguments.batch:(batch + 1) * arguments.batch]
            step = epoch * steps_per_epoch + batch
            optimizer.param_groups[0]["lr"] = learning_rate(step, arguments.warmup_steps, total_steps)
            cosine = functional.normalize(network(normalize(images[picked]))) @ functional.normalize(centers).T
            target = labels[picked]
            logits = 32.0 * (cosine - 0.35 * functional.one_hot(target, classes))
            loss = functional.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained = time.perf_counter() - started
        accuracy = verification_accuracy(network, eval_images, pairs)
        seconds = time.perf_counter() - started
        epochs.append({"epoch": epoch + 1, "seconds": seconds, "accuracy": accuracy, "loss": loss.item()})
        print(f"epoch {epoch + 1}/{arguments.epochs}  {seconds:.1f} s  loss {loss.item():.3f}  accuracy {accuracy:.4f}  "
              f"{(epoch + 1) * steps_per_epoch * arguments.batch / trained:.0f} images/s", flush=True)
        if reached is None and accuracy >= arguments.target:
            reached = seconds
            if arguments.stop_at_target:
                break
    print(f"accuracy {arguments.target} reached after {reached:.1f} s" if reached else f"accuracy {arguments.target} not reached")
    if arguments.json:
        arguments.json.write_text(json.dumps({"target": arguments.target, "reached_seconds": reached, "epochs": epochs}, indent=1))


if __name__ == "__main__":
    main()
