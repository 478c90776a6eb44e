"""Links the pinned LibTorch wheel, unpacked by deploy/install.sh, as the repository @libtorch."""

def _libtorch_impl(ctx):
    home = ctx.os.environ.get("LIBTORCH_HOME", "")
    if not home:
        home = ctx.os.environ.get("HOME", "/root") + "/.cache/myriad/libtorch-2.11.0"
    root = ctx.path(home)
    if not ctx.path(home + "/torch/include/ATen/ATen.h").exists:
        fail("LibTorch is not at %s. Run deploy/install.sh, or set LIBTORCH_HOME to the folder that has torch/." % home)

    # The wheel bundles an older google/protobuf that would hide the system's: everything else is linked.
    for entry in ctx.path(home + "/torch/include").readdir():
        if entry.basename != "google":
            ctx.symlink(entry, "include/" + entry.basename)
    ctx.symlink(root.get_child("torch").get_child("lib"), "lib")
    nvidia = root.get_child("nvidia")
    if nvidia.exists:
        ctx.symlink(nvidia, "nvidia")
    rpaths = ["-Wl,-rpath,%s/torch/lib" % home]
    cuda_dirs = []
    if nvidia.exists:
        for part in nvidia.readdir():
            lib = part.get_child("lib")
            if lib.exists:
                rpaths.append("-Wl,-rpath,%s" % lib)
                cuda_dirs.append("-L%s" % lib)
    ctx.template("BUILD.bazel", Label("//third_party/libtorch:libtorch.BUILD.tpl"), {
        "%{lib}": "%s/torch/lib" % home,
        "%{rpaths}": "\n".join(['        "%s",' % r for r in rpaths]),
        "%{cuda_dirs}": "\n".join(['        "%s",' % d for d in cuda_dirs]),
    })

libtorch = repository_rule(
    implementation = _libtorch_impl,
    environ = ["LIBTORCH_HOME", "HOME"],
    local = True,
)
