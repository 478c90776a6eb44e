#ifndef MYRIAD_WORKER_DEVICE_H_
#define MYRIAD_WORKER_DEVICE_H_

#include <string>

#include <c10/core/Device.h>

#include "absl/status/statusor.h"

namespace myriad {

// The device of this worker: one worker a GPU. `choice` is auto (a GPU where the build and the machine have any, else the CPU), cpu or
// cuda. Makes a GPU the thread's current device.
// Errors: INVALID_ARGUMENT for another choice; FAILED_PRECONDITION: cuda in a build without it, or, with auto too, more workers on a
// machine than it has GPUs: some on the CPU would hold up all.
absl::StatusOr<c10::Device> ChooseDevice(const std::string& choice, int local_rank);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DEVICE_H_
