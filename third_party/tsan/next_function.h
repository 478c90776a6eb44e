#ifndef MYRIAD_THIRD_PARTY_TSAN_NEXT_FUNCTION_H_
#define MYRIAD_THIRD_PARTY_TSAN_NEXT_FUNCTION_H_

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

namespace myriad {

// The function that a function of the same (mangled) name in this program hides: that of the shared library. Ends the process where there
// is none, because the library is then not the one that was built for.
template <typename Function>
Function* NextFunction(const char* symbol) {
  void* const found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) {
    fprintf(stderr, "third_party/tsan: no library has %s\n", symbol);
    abort();
  }
  return reinterpret_cast<Function*>(found);
}

}  // namespace myriad

#endif  // MYRIAD_THIRD_PARTY_TSAN_NEXT_FUNCTION_H_
