#ifndef MYRIAD_HEAD_PREFETCH_H_
#define MYRIAD_HEAD_PREFETCH_H_

#include <cstdint>

namespace myriad {

// Asks for memory that will be read soon (and written, if `write`), while something else is done. Worth it for what lies anywhere, such as
// a row: the hardware foresees a stream alone.
inline void PrefetchBytes(const void* memory, int64_t bytes, bool write) {
  constexpr int64_t kLineBytes = 64;
  const char* const begin = static_cast<const char*>(memory);
  for (int64_t i = 0; i < bytes; i += kLineBytes) {
    if (write) {
      __builtin_prefetch(begin + i, 1);
    } else {
      __builtin_prefetch(begin + i, 0);
    }
  }
}

}  // namespace myriad

#endif  // MYRIAD_HEAD_PREFETCH_H_
