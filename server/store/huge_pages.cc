#include "server/store/huge_pages.h"

#include <sys/mman.h>

#include <utility>

namespace myriad {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

}  // namespace

HugePages::HugePages(int64_t bytes) {
  if (bytes == 0) return;
  // One more, for the alignment.
  void* const mapping = mmap(nullptr, bytes + kHugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return;
  mapping_ = mapping;
  bytes_ = bytes;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(mapping) + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  data_ = reinterpret_cast<float*>(begin);
  madvise(data_, bytes, MADV_HUGEPAGE);  // A hint: where it is refused, small pages do.
}

HugePages::~HugePages() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_ + kHugePageBytes);
}

HugePages& HugePages::operator=(HugePages&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace myriad
