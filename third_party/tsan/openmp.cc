// Tells ThreadSanitizer what `#pragma omp parallel` does (at::parallel_for): the threads start after what the caller did before, and the
// caller goes on after what all of them did. libgomp is not built for it and its futexes say nothing.

#include <sanitizer/tsan_interface.h>

#include "third_party/tsan/next_function.h"

namespace {

struct Region {
  void (*body)(void*);
  void* data;
  // What orders the start and the end. One for both would order the threads whose body starts late after those that are done.
  alignas(8) char start;
  alignas(8) char end;
};

void RunRegion(void* argument) {
  auto* region = static_cast<Region*>(argument);
  __tsan_acquire(&region->start);
  region->body(region->data);
  __tsan_release(&region->end);
}

}  // namespace

// What the compiler makes of `#pragma omp parallel`.
extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) {
  static auto* const next = myriad::NextFunction<void(void (*)(void*), void*, unsigned, unsigned)>("GOMP_parallel");
  Region region{body, data, 0, 0};
  __tsan_release(&region.start);
  next(RunRegion, &region, threads, flags);
  __tsan_acquire(&region.end);
}
