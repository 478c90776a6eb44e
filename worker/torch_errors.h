#ifndef MYRIAD_WORKER_TORCH_ERRORS_H_
#define MYRIAD_WORKER_TORCH_ERRORS_H_

#include <exception>
#include <utility>

#include <c10/util/Exception.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace myriad {

// Runs `call` and turns what LibTorch throws into INTERNAL (RESOURCE_EXHAUSTED for device memory), starting with `what`. Every call into
// LibTorch that can fail for an outside reason (memory, a device, a peer) goes through one of these two.
template <typename Call>
absl::Status GuardTorch(const char* what, Call&& call) {
  try {
    std::forward<Call>(call)();
    return absl::OkStatus();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": ", error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    return absl::InternalError(absl::StrCat(what, ": ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, ": ", error.what()));
  }
}

template <typename T, typename Call>
absl::StatusOr<T> GuardTorchValue(const char* what, Call&& call) {
  T value;
  absl::Status status = GuardTorch(what, [&] { value = std::forward<Call>(call)(); });
  if (!status.ok()) return status;
  return value;
}

}  // namespace myriad

#endif  // MYRIAD_WORKER_TORCH_ERRORS_H_
