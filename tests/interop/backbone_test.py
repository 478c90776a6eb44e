"""The networks equal their Python definitions: names, shapes and order of the state, outputs in training and in evaluation mode, and the
running statistics that training leaves. Python computes in float64, so the difference is the rounding of one side."""
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest

import torch
from safetensors.torch import load_file

DUMP, IRESNET, PLAIN_LOOP = sys.argv[1:4]


def module_at(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BackboneTest(unittest.TestCase):
    def compare(self, network, name, depth, size, channels, dim, batch):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([DUMP, name, *map(str, (depth, size, channels, dim, batch)), folder], check=True)
            initial, values, after = [load_file(f"{folder}/{part}.safetensors") for part in ("initial", "values", "after")]
        self.assertEqual({key: tuple(value.shape) for key, value in network.state_dict().items()},
                         {key: tuple(value.shape) for key, value in initial.items()})
        self.assertFalse(network.features.weight.requires_grad)
        network.load_state_dict(initial, strict=True)
        network.double().train()
        images = values["images"].double()
        with torch.no_grad():
            for mode in ("trained", "evaluated"):
                embeddings = network(images)
                self.close(mode, values[mode], embeddings, embeddings.abs().max())
                network.eval()
        state = network.state_dict()
        for key, value in state.items():
            # A mean may be next to nothing: its error is measured against the deviation beside it.
            spread = state[key[:-len("mean")] + "var"].sqrt().max() if key.endswith("running_mean") else value.abs().max()
            self.close(key, after[key], value, spread)
        moved = [key for key in initial if not torch.equal(initial[key], after[key])]
        self.assertTrue(moved and all(key.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked") for key in moved))

    def close(self, name, got, expected, scale, tolerance=2e-4):
        error = (got.double() - expected.double()).abs().max()
        self.assertLessEqual(error.item(), tolerance * scale.item(), name)

    def test_iresnet(self):
        python = module_at(IRESNET)
        for depth, size, channels, dim in ((18, 112, 3, 512), (34, 32, 1, 128), (50, 32, 3, 512), (100, 32, 3, 512)):
            with self.subTest(depth=depth):
                self.compare(python.IResNet(depth, size, channels, dim), "iresnet", depth, size, channels, dim, batch=4)

    def test_small_resnet_is_the_network_of_the_plain_loop(self):
        plain = module_at(PLAIN_LOOP).SmallResNet(48, 1, 128)
        self.compare(plain, "small_resnet", 0, 48, 1, 128, batch=16)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
