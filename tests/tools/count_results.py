#!/usr/bin/env python3
"""Counts test cases in what Bazel reports (--build_event_json_file) and in the JUnit files that the tests wrote.

Prints what failed, then `N passed, N failed[, N skipped]`. Exit status 1 if anything failed or nothing passed. A target that did not
build counts as one failed case, and so does a test that ended badly without naming a failed case (a crash, a time-out).
"""
import argparse
import json
import sys
import urllib.parse
import xml.etree.ElementTree


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def fail(self, name):
        self.failed += 1
        self.failures.append(name)


def count_junit(path, label, counts):
    """Adds the cases of one JUnit file; returns how many of them failed, or None if there is no readable case in it."""
    try:
        cases = list(xml.etree.ElementTree.parse(path).iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    failed = 0
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            counts.fail(f"{label} {case.get('classname', '')}.{case.get('name', '')}")
        elif case.get("status") == "notrun" or case.find("skipped") is not None:
            counts.skipped += 1
        else:
            counts.passed += 1
    return failed if cases else None


def count_events(lines, counts):
    results = {}  # (label, run, shard) -> the result of its last attempt.
    finished = False
    for line in lines:
        event = json.loads(line)
        kind = event.get("id", {})
        if "testResult" in kind:
            key = kind["testResult"]
            slot = (key["label"], key.get("run", 1), key.get("shard", 1))
            if slot not in results or key.get("attempt", 1) >= results[slot][0]:
                results[slot] = (key.get("attempt", 1), event.get("testResult", {}))
        elif "targetCompleted" in kind and not event.get("completed", {}).get("success"):
            label = kind["targetCompleted"]["label"]
            # A failed test is told by its testResult; a target that did not build has none.
            if "aborted" in event or "completed" in event:
                results.setdefault(("build", label), (0, None))
        elif "aborted" in event and "pattern" in kind:
            counts.fail(f"{kind['pattern'].get('pattern')} {event['aborted'].get('description', '')}")
        elif "buildFinished" in kind:
            finished = True
    tested = {slot[0] for slot, (_, result) in results.items() if result is not None}
    for slot, (_, result) in sorted(results.items()):
        if result is None:
            if slot[1] not in tested:
                counts.fail(f"{slot[1]} was not built")
            continue
        uri = next((o["uri"] for o in result.get("testActionOutput", []) if o["name"] == "test.xml"), "")
        path = urllib.parse.unquote(urllib.parse.urlparse(uri).path)
        failed = count_junit(path, slot[0], counts)
        if result.get("status") in ("PASSED", "FLAKY"):
            if failed is None:
                counts.passed += 1
        elif not failed:
            counts.fail(f"{slot[0]} ended as {result.get('status')}")
    return finished


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("events", nargs="*", help="files of --build_event_json_file; one that is missing counts as a failure")
    parser.add_argument("--passed", action="append", default=[], metavar="NAME", help="a check outside Bazel that passed")
    parser.add_argument("--failed", action="append", default=[], metavar="NAME", help="one that failed")
    arguments = parser.parse_args()
    counts = Counts()
    counts.passed = len(arguments.passed)
    for name in arguments.failed:
        counts.fail(name)
    for path in arguments.events:
        try:
            with open(path) as file:
                if not count_events(file, counts):
                    counts.fail(f"bazel did not finish ({path})")
        except (OSError, ValueError) as error:
            counts.fail(f"bazel did not finish: {error}")
    for name in counts.failures:
        print(f"failed: {name}")
    skipped = f", {counts.skipped} skipped" if counts.skipped else ""
    print(f"{counts.passed} passed, {counts.failed} failed{skipped}")
    sys.exit(counts.failed > 0 or counts.passed == 0)


if __name__ == "__main__":
    main()
