"""ThreadSanitizer as --config=tsan sets it up: silent where Abseil's locks or a parallel region order two threads, and not where the same
calls leave a race."""
import os
import subprocess
import sys
import unittest

PROBE = sys.argv[1]
# Threads meet in another order.
RUNS = 2
# Without it, a second at each exit for threads that are still on their way.
ENVIRONMENT = dict(os.environ, TSAN_OPTIONS="atexit_sleep_ms=0")


def run(*arguments):
    return subprocess.run([PROBE, *arguments], capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


class TsanTest(unittest.TestCase):
    def setUp(self):
        self.cases = run().stdout.split() * RUNS
        self.assertTrue(self.cases)

    def test_what_a_lock_orders_is_no_race(self):
        for case in self.cases:
            with self.subTest(case):
                done = run(case, "ordered")
                self.assertEqual((done.stderr, done.returncode), ("", 0))

    def test_the_same_calls_do_not_hide_a_race(self):
        for case in self.cases:
            with self.subTest(case):
                done = run(case, "racy")
                self.assertIn("WARNING: ThreadSanitizer: data race", done.stderr)
                self.assertEqual(done.returncode, 66)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
