"""The closing count is that of what really ran: cases are counted one by one, and nothing that went wrong is missed."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

COUNT = pathlib.Path(__file__).with_name("count_results.py")


class CountResultsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())

    def result(self, label, status, junit=None, attempt=1):
        xml = self.folder / f"{label.strip('/').replace('/', '_').replace(':', '_')}_{attempt}.xml"
        if junit is not None:
            xml.write_text(junit)
        return {"id": {"testResult": {"label": label, "run": 1, "shard": 1, "attempt": attempt}},
                "testResult": {"status": status, "testActionOutput": [{"name": "test.xml", "uri": f"file://{xml}"}]}}

    def count(self, events, *options, finished=True):
        path = self.folder / "events.json"
        events = events + ([{"id": {"buildFinished": {}}, "finished": {}}] if finished else [])
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        run = subprocess.run([sys.executable, COUNT, *options, path], capture_output=True, text=True)
        return run.stdout.splitlines(), run.returncode

    def test_counts_cases_not_targets(self):
        junit = '<testsuites><testsuite><testcase name="a" status="run"/><testcase name="b" status="run"/></testsuite></testsuites>'
        lines, code = self.count([self.result("//t:a", "PASSED", junit)], "--passed=format")
        self.assertEqual((lines[-1], code), ("3 passed, 0 failed", 0))

    def test_names_failed_cases_and_tells_skipped_ones(self):
        junit = ('<testsuite><testcase classname="T" name="bad"><failure/></testcase><testcase name="off" status="notrun"/>'
                 '<testcase name="skip"><skipped/></testcase><testcase name="good"/></testsuite>')
        lines, code = self.count([self.result("//t:a", "FAILED", junit)])
        self.assertIn("failed: //t:a T.bad", lines)
        self.assertEqual((lines[-1], code), ("1 passed, 1 failed, 2 skipped", 1))

    def test_a_crash_counts_although_no_case_tells_it(self):
        for junit in (None, "<testsuite/>", "<testsui", '<testsuite><testcase name="before"/></testsuite>'):
            with self.subTest(junit=junit):
                lines, code = self.count([self.result("//t:a", "TIMEOUT", junit)])
                self.assertIn("failed: //t:a ended as TIMEOUT", lines)
                self.assertEqual(code, 1)

    def test_a_target_that_did_not_build_counts_as_failed_once(self):
        events = [{"id": {"targetCompleted": {"label": "//t:broken"}}, "completed": {}},
                  {"id": {"targetCompleted": {"label": "//t:bad"}}, "completed": {"success": True}},
                  self.result("//t:bad", "PASSED", '<testsuite><testcase name="a"/></testsuite>')]
        lines, code = self.count(events)
        self.assertEqual((lines, code), (["failed: //t:broken was not built", "1 passed, 1 failed"], 1))

    def test_the_last_attempt_of_a_flaky_test_counts(self):
        events = [self.result("//t:a", "FAILED", '<testsuite><testcase name="a"><failure/></testcase></testsuite>', attempt=1),
                  self.result("//t:a", "PASSED", '<testsuite><testcase name="a"/></testsuite>', attempt=2)]
        self.assertEqual(self.count(events), (["1 passed, 0 failed"], 0))

    def test_events_that_break_off_are_a_failure(self):
        for events in ([], [self.result("//t:a", "PASSED")]):
            lines, code = self.count(events, finished=False)
            self.assertEqual(code, 1)
            self.assertIn("bazel did not finish", lines[0])

    def test_nothing_run_is_not_success(self):
        self.assertEqual(self.count([]), (["0 passed, 0 failed"], 1))


if __name__ == "__main__":
    unittest.main()
