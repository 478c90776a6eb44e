#ifndef MYRIAD_WORKER_AUTOCAST_H_
#define MYRIAD_WORKER_AUTOCAST_H_

#include <ATen/autocast_mode.h>

namespace myriad {

// While it lives, and if `enabled`, this thread's operations on `device` run in bfloat16 where that is safe (convolutions and products);
// parameters and statistics stay float32. For the forward pass only: backward follows the types that forward chose.
class Bfloat16Autocast {
 public:
  Bfloat16Autocast(bool enabled, at::DeviceType device) : enabled_(enabled), device_(device) {
    if (!enabled_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(device_);
    old_type_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  }
  ~Bfloat16Autocast() {
    if (!enabled_) return;
    // The cached casts of the parameters are of this step's values.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, old_type_);
  }

  Bfloat16Autocast(const Bfloat16Autocast&) = delete;
  Bfloat16Autocast& operator=(const Bfloat16Autocast&) = delete;

 private:
  const bool enabled_;
  const at::DeviceType device_;
  bool was_enabled_ = false;
  at::ScalarType old_type_ = at::kBFloat16;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_AUTOCAST_H_
