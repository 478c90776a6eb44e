# Written by //third_party/libtorch:libtorch.bzl.
package(default_visibility = ["//visibility:public"])

config_setting(
    name = "cuda",
    define_values = {"cuda": "true"},
)

# ATen, c10, autograd, torch::nn and c10d. With --config=cuda the CUDA back ends and ProcessGroupNCCL are linked too.
cc_library(
    name = "libtorch",
    hdrs = glob(
        ["include/**/*.h", "include/**/*.hpp", "include/**/*.cuh"],
        exclude = ["include/google/**"],
    ),
    defines = ["USE_C10D_GLOO"] + select({
        ":cuda": ["USE_CUDA", "USE_C10D_NCCL", "MYRIAD_CUDA=1"],
        "//conditions:default": [],
    }),
    includes = ["include", "include/torch/csrc/api/include"] + select({
        ":cuda": ["nvidia/cu13/include", "nvidia/nccl/include"],
        "//conditions:default": [],
    }),
    linkopts = [
        "-L%{lib}",
        "-Wl,--allow-shlib-undefined",
        "-ltorch_cpu",
        "-lc10",
        "-l:libgomp.so.1",
%{rpaths}
    ] + select({
        ":cuda": [
%{cuda_dirs}
            "-Wl,--no-as-needed",
            "-ltorch_cuda",
            "-lc10_cuda",
            "-Wl,--as-needed",
        ],
        "//conditions:default": [],
    }),
)
