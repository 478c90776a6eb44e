"""check_parallel_for.py finds a parallel loop that is compiled without -fopenmp, and names file and target."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).with_name("check_parallel_for.py")
TARGET = 'cc_library(\n    name = "loops",\n    srcs = ["loops.cc"],\n%s)\n'
LOOP = "void f() {\n  at::parallel_for(0, 9, 1, work);\n}\n"


class CheckParallelForTest(unittest.TestCase):
    def check(self, build, source):
        root = pathlib.Path(tempfile.mkdtemp())
        (root / "server/store").mkdir(parents=True)
        (root / "server/store/BUILD.bazel").write_text(build)
        (root / "server/store/loops.cc").write_text(source)
        run = subprocess.run([sys.executable, CHECK, "--root", root], capture_output=True, text=True)
        return run.stdout, run.returncode

    def test_a_loop_with_the_flag_passes(self):
        output, code = self.check(TARGET % '    copts = ["-fopenmp"],\n', LOOP)
        self.assertEqual((output, code), ("parallel loops run on all threads\n", 0))

    def test_a_target_without_a_loop_needs_no_flag(self):
        self.assertEqual(self.check(TARGET % "", "void f() {}\n")[1], 0)

    def test_a_loop_without_the_flag_is_named_though_another_target_has_it(self):
        other = 'cc_library(\n    name = "other",\n    srcs = ["other.cc"],\n    copts = ["-fopenmp"],\n)\n\n'
        output, code = self.check(other + TARGET % "", LOOP)
        self.assertEqual(code, 1)
        self.assertIn("server/store/loops.cc", output)
        self.assertIn("target loops", output)


if __name__ == "__main__":
    unittest.main()
