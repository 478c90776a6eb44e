"""What the tests of whole runs share: data, configurations, the processes that a command starts, and that none of them is left."""
import ctypes
import json
import os
import pathlib
import re
import subprocess

import numpy

SIZE = 24

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes this process the parent of what its children leave behind, so that assert_none_left can see it."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def assert_none_left(test):
    """No child is left, its own or adopted, not even one that has ended unnoticed."""
    try:
        left, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    names = [f"{pid}: {command_of(pid)}" for pid in children_of(os.getpid())]
    test.fail(f"left behind: {names if left == 0 else left}")


def reap_adopted():
    """Waits for all that was left to this process by a child that was killed."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def _read(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def command_of(pid):
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def children_of(parent):
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if b"\nPPid:\t%d\n" % parent in _read(pid, "status")]


def child(parent, program, rank=None):
    """The process id of the child of `parent` that runs `program`; of worker `rank`."""
    for pid in children_of(parent):
        environment = _read(pid, "environ").split(b"\0")
        if program in command_of(pid).split(" ")[0] and (rank is None or b"RANK=%d" % rank in environment):
            return pid
    raise AssertionError(f"no {program} among the children of {parent}")


def make_glyphs(myriad, folder):
    """24 Han characters x 4 samples to train on, 8 others held out."""
    subprocess.run([myriad, "data", "glyphs", "--classes", "24", "--eval-classes", "8", "--per-class", "4", "--size", str(SIZE), "--pairs",
                    "40", "--min-designs", "1", "--out", folder], check=True, stdout=subprocess.DEVNULL)


def write_job(path, data, more="", steps=8):
    """A job over `data`, small enough for a test: four steps an epoch of the glyphs."""
    path.write_text(f"""
heads {{ spec {{ name: "made" }} training {{ uniform {{ sample_count: 5 }} }} }}
datasets {{ path: "{data}" }}
backbone {{ small_resnet {{ width: 4 }} embedding_dim: 16 image_size: {SIZE} channels: 1 }}
training {{ batch_size: 24 steps: {steps} log_every_steps: 1 final_rows: FINAL_ROWS_WEIGHTS_AND_SLOTS }}
{more}
""")
    return path


def metrics_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


# Numbers that numpy does not know are compared by their bits.
_NUMPY_TYPES = {"F32": "<f4", "I64": "<i8", "F16": "<f2", "BF16": "<u2"}


def load_tensors(path):
    """The tensors of a safetensors file: name -> array."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        tensors[name] = numpy.frombuffer(content[begin:end], _NUMPY_TYPES[info["dtype"]]).reshape(info["shape"])
    return tensors


def rows_of(run_dir):
    """The rows that a run of write_job's has left: class id -> bytes of weights and slots."""
    rows = {}
    for path in (run_dir / "head/made").glob("rows-*.safetensors"):
        file = load_tensors(path)
        for i, class_id in enumerate(file["class_ids"].tolist()):
            rows[class_id] = file["weights"][i].tobytes() + file["slots"][i].tobytes()
    return rows


def state_of(run_dir):
    """Everything that a run of write_job's has learnt: name -> bytes."""
    network = {name: tensor.tobytes() for name, tensor in load_tensors(run_dir / "backbone.safetensors").items()}
    return {**network, **{f"row {class_id}": row for class_id, row in rows_of(run_dir).items()}}


def assert_same_results(test, first_dir, second_dir, steps):
    """Two runs of `steps` steps agree in every bit of the network, the rows and the losses."""
    first, second = state_of(first_dir), state_of(second_dir)
    test.assertEqual(first.keys(), second.keys())
    test.assertEqual([name for name, value in first.items() if value != second[name]], [])
    losses = [[line["loss"] for line in metrics_of(run_dir) if "loss" in line] for run_dir in (first_dir, second_dir)]
    test.assertEqual(len(losses[0]), steps)
    test.assertEqual(losses[0], losses[1])


class Server:
    """A `myriad-server` of its own, while the block lasts."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([program, "--listen", "127.0.0.1:0", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
        told = (re.search(r" serves on (\S+) with ", line) for line in self.process.stdout)
        self.address = next((match[1] for match in told if match), None)
        if self.address is None:
            raise AssertionError(f"{program} ended with {self.process.wait()} before it served")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=60)


class Run:
    """`myriad train`, under way."""

    def __init__(self, myriad, *arguments):
        self.process = subprocess.Popen([myriad, "train", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []

    def wait_for_step(self, at_least=0):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("step ") and int(line[5:].split("/")[0]) >= at_least:
                return
        raise AssertionError(f"no step was told: {self.lines} {self.process.stderr.read()}")

    def finish(self, timeout):
        """Exit code; `lines` and `errors` have what was printed. Both pipes are read to their end, which no process holds open."""
        rest, self.errors = self.process.communicate(timeout=timeout)
        self.lines += rest.splitlines()
        return self.process.returncode
