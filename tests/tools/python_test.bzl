"""Tests in Python, run by Debian's Python: Bazel's own py_test would look for a toolchain of its own."""

def python_test(name, main, args = [], data = [], **kwargs):
    """A test that runs `main` with `args`; `$(location ...)` of `data` is expanded in them. It fails by its exit status."""
    native.sh_test(
        name = name,
        srcs = ["//tests/tools:python_test.sh"],
        args = ["$(location %s)" % main] + args,
        data = [main] + data,
        **kwargs
    )
