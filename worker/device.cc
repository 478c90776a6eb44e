#include "worker/device.h"

#ifdef MYRIAD_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "absl/strings/str_cat.h"

namespace myriad {

absl::StatusOr<c10::Device> ChooseDevice(const std::string& choice, int local_rank) {
  if (choice != "auto" && choice != "cpu" && choice != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("--device is \"", choice, "\"; it must be auto, cpu or cuda"));
  }
  if (choice == "cpu") return c10::Device(c10::kCPU);
#ifdef MYRIAD_CUDA
  const int gpus = c10::cuda::device_count();
  if (gpus == 0 && choice == "auto") return c10::Device(c10::kCPU);
  if (local_rank >= gpus) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", local_rank, " of this machine has no GPU: there are ", gpus,
                                                      "; run one worker a GPU, or use --device cpu"));
  }
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(local_rank));
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
#else
  (void)local_rank;
  if (choice == "cuda") {
    return absl::FailedPreconditionError("--device cuda: this build has no CUDA; build with --config=cuda");
  }
  return c10::Device(c10::kCPU);
#endif
}

}  // namespace myriad
