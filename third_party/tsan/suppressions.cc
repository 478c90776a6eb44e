// What ThreadSanitizer must not report: libraries that are not built for it. Their own atomics are not seen, so what their threads hand to
// each other looks like a race. Our frames in a report do not save it where one of its accesses lies in such a library.

extern "C" const char* __tsan_default_suppressions() {
  return
      // Data of ours goes in and out as copies, under the library's own locks.
      "race:librocksdb.so\n"
      "race:libgrpc.so\n"
      "race:libgrpc++.so\n"
      "race:libgpr.so\n"
      "race:libprotobuf.so\n"
      "race:libtorch_cpu.so\n"
      "race:libc10.so\n"
      "race:libgomp.so\n"
      // The order of gRPC's own locks is its affair.
      "deadlock:libgrpc.so\n"
      "deadlock:libgrpc++.so\n";
}
