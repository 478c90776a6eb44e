"""Each rule of check_dependencies.py finds its violation in a small tree, and names file and use."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).with_name("check_dependencies.py")


class CheckDependenciesTest(unittest.TestCase):
    def check(self, files):
        root = pathlib.Path(tempfile.mkdtemp())
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        run = subprocess.run([sys.executable, CHECK, "--root", root], capture_output=True, text=True)
        return run.stdout, run.returncode

    def test_what_the_layout_allows_passes(self):
        output, code = self.check({
            "worker/a.cc": '#include "client/b.h"\n#include <torch/nn.h>\n#include "myriad/v1/head.pb.h"\n',
            "client/BUILD.bazel": 'cc_library(visibility = ["//worker:__subpackages__"], deps = ["//head:head_spec"])',
            "proto/wire/c.h": '#include "head/d.h"\n',
        })
        self.assertEqual((output, code), ("dependencies point one way\n", 0))

    def test_each_violation_is_named(self):
        for name, text, use in [
            ("head/a.h", '#include "server/b.h"\n', "server/b.h"),
            ("head/a.h", '#include "myriad/v1/head.pb.h"\n', "myriad/v1/head.pb.h"),
            ("server/a.cc", '  #  include "client/b.h"\n', "client/b.h"),
            ("client/a.cc", '#include <rocksdb/db.h>\n', "rocksdb/db.h"),
            ("server/a.cc", '#include <torch/nn/module.h>\n', "torch/nn/module.h"),
            ("client/BUILD.bazel", 'cc_library(deps = ["//worker:b"])', "worker"),
            ("client/BUILD.bazel", 'cc_library(deps = ["//tests/testing:b"])', "tests/testing"),
            ("proto/myriad/v1/a.proto", 'import "head/b.proto";\n', "head/b.proto"),
        ]:
            with self.subTest(name=name, text=text):
                output, code = self.check({name: text})
                self.assertEqual(code, 1)
                self.assertIn(name, output)
                self.assertIn(use, output)


if __name__ == "__main__":
    unittest.main()
