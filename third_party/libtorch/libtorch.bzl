"""Links the pinned LibTorch wheel, unpacked by deploy/install.sh, as the repository @libtorch."""

def _libtorch_impl(ctx):
    home = ctx.os.environ.get("LIBTORCH_HOME", "")
    if not home:
        cache = ctx.os.environ.get("MYRIAD_CACHE", "") or ctx.os.environ.get("HOME", "/root") + "/.cache/myriad"
        home = cache + "/libtorch-2.11.0"
    root = ctx.path(home)
    if not ctx.path(home + "/torch/include/ATen/ATen.h").exists:
        fail("LibTorch is not at %s. Run deploy/install.sh, or set LIBTORCH_HOME to the folder that has torch/." % home)

    # The wheel bundles an older google/protobuf that would hide the system's: everything else is linked.
    for entry in ctx.path(home + "/torch/include").readdir():
        if entry.basename != "google":
            ctx.symlink(entry, "include/" + entry.basename)
    ctx.symlink(root.get_child("torch").get_child("lib"), "lib")
    if root.get_child("nvidia").exists:
        ctx.symlink(root.get_child("nvidia"), "nvidia")
    ctx.template("BUILD.bazel", Label("//third_party/libtorch:libtorch.BUILD.tpl"), {
        "%{lib}": "%s/torch/lib" % home,
        "%{nvidia}": "%s/nvidia" % home,
    })

libtorch = repository_rule(
    implementation = _libtorch_impl,
    environ = ["LIBTORCH_HOME", "MYRIAD_CACHE", "HOME"],
    local = True,
)
