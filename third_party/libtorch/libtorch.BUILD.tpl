# Written by //third_party/libtorch:libtorch.bzl.
package(default_visibility = ["//visibility:public"])

config_setting(
    name = "cuda",
    define_values = {"cuda": "true"},
)

# ATen, c10, autograd, torch::nn and c10d. With --config=cuda the CUDA back ends and ProcessGroupNCCL are linked too: code asks with
# `#ifdef MYRIAD_CUDA`. The wheel's libraries find the CUDA ones by their own run paths.
cc_library(
    name = "libtorch",
    hdrs = glob(
        ["include/**/*.h", "include/**/*.hpp", "include/**/*.cuh"],
        exclude = ["include/google/**"],
    ) + select({
        ":cuda": glob(["nvidia/*/include/**"], allow_empty = True),
        "//conditions:default": [],
    }),
    defines = ["USE_C10D_GLOO"] + select({
        ":cuda": ["USE_C10D_NCCL", "MYRIAD_CUDA=1"],
        "//conditions:default": [],
    }),
    includes = ["include", "include/torch/csrc/api/include"] + select({
        ":cuda": ["nvidia/cu13/include", "nvidia/nccl/include"],
        "//conditions:default": [],
    }),
    linkopts = [
        "-L%{lib}",
        "-Wl,-rpath,%{lib}",
        "-Wl,--allow-shlib-undefined",
        "-ltorch_cpu",
        "-lc10",
        "-l:libgomp.so.1",
    ] + select({
        ":cuda": [
            "-Wl,--no-as-needed",
            "-ltorch_cuda",
            "-lc10_cuda",
            "-Wl,--as-needed",
            "-L%{nvidia}/cu13/lib",
            "-l:libcudart.so.13",
            "-L%{nvidia}/nccl/lib",
            "-l:libnccl.so.2",
        ],
        "//conditions:default": [],
    }),
)
