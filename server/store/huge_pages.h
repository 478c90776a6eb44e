#ifndef MYRIAD_SERVER_STORE_HUGE_PAGES_H_
#define MYRIAD_SERVER_STORE_HUGE_PAGES_H_

#include <cstdint>

namespace myriad {

// Address space for floats that a step walks over in any order, in huge pages where the system gives them: each page takes memory when it
// is first written. Movable.
class HugePages {
 public:
  HugePages() = default;
  // data() is nullptr if there is no address space; errno tells why. Requires: bytes >= 0.
  explicit HugePages(int64_t bytes);
  ~HugePages();
  HugePages(HugePages&& other) noexcept { *this = static_cast<HugePages&&>(other); }
  HugePages& operator=(HugePages&& other) noexcept;

  // Aligned to a huge page, zeros at first.
  float* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  float* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_HUGE_PAGES_H_
