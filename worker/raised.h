#ifndef MYRIAD_WORKER_RAISED_H_
#define MYRIAD_WORKER_RAISED_H_

#include <atomic>

namespace myriad {

// Sets a flag, if there is one, while it lives.
class Raised {
 public:
  explicit Raised(std::atomic<bool>* flag) : flag_(flag) { Set(true); }
  ~Raised() { Set(false); }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;

 private:
  void Set(bool value) {
    if (flag_ != nullptr) flag_->store(value);
  }
  std::atomic<bool>* const flag_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_RAISED_H_
