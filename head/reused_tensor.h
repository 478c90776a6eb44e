#ifndef MYRIAD_HEAD_REUSED_TENSOR_H_
#define MYRIAD_HEAD_REUSED_TENSOR_H_

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

namespace myriad {

// Memory that goes from step to step: fresh pages cost more than many of the passes over them.
class ReusedTensor {
 public:
  // A contiguous tensor of `sizes` over this memory, its contents undefined. Ends the life of what the last Get returned.
  // Throws c10::Error when memory is short.
  at::Tensor Get(at::IntArrayRef sizes, const at::TensorOptions& options) {
    int64_t numel = 1;
    for (int64_t size : sizes) numel *= size;
    const bool fits = storage_.defined() && storage_.numel() >= numel && storage_.device() == options.device() &&
                      storage_.scalar_type() == c10::typeMetaToScalarType(options.dtype());
    if (!fits) {
      storage_.reset();  // Before the larger one: both need not fit.
      storage_ = at::empty({numel + numel / 8}, options);
    }
    return storage_.narrow(0, 0, numel).view(sizes);
  }

 private:
  at::Tensor storage_;
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_REUSED_TENSOR_H_
