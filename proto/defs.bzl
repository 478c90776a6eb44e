"""C++ code from .proto files by the system's protoc and gRPC plugin."""

def myriad_cc_proto(name, srcs, deps = [], proto_deps = [], visibility = None):
    """A cc_library of the generated messages and gRPC stubs of `srcs`.

    Args:
      name: the library; `name + "_files"` is the filegroup of the .proto files.
      srcs: .proto files of this package; a file with a service must import nothing but `proto_deps` and siblings.
      deps: the libraries of `proto_deps`.
      proto_deps: filegroups of imported .proto files.
      visibility: who may depend on it.
    """
    native.filegroup(name = name + "_files", srcs = srcs, visibility = ["//visibility:public"])
    stems = [src[:-len(".proto")] for src in srcs]
    headers = [s + suffix for s in stems for suffix in [".pb.h", ".grpc.pb.h"]]
    sources = [s + suffix for s in stems for suffix in [".pb.cc", ".grpc.pb.cc"]]
    native.genrule(
        name = name + "_gen",
        srcs = srcs + proto_deps,
        outs = headers + sources,
        cmd = " ".join([
            "protoc -Iproto",
            "--cpp_out=$(GENDIR)/proto",
            "--grpc_out=$(GENDIR)/proto",
            "--plugin=protoc-gen-grpc=$$(which grpc_cpp_plugin)",
        ] + ["$(location %s)" % s for s in srcs]),
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        strip_include_prefix = "/proto",
        deps = deps + ["//third_party:grpc", "//third_party:protobuf"],
        visibility = visibility,
    )
