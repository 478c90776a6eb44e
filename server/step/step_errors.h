#ifndef MYRIAD_SERVER_STEP_STEP_ERRORS_H_
#define MYRIAD_SERVER_STEP_STEP_ERRORS_H_

#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/step/step_work.h"
#include "server/step/vote.h"

namespace myriad {

// The seam where exceptions end: what LibTorch throws becomes INTERNAL; what an allocation does, or a thread that cannot be started,
// RESOURCE_EXHAUSTED. `function` returns absl::Status or absl::StatusOr.
template <typename Function>
auto CatchAll(Function&& function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::system_error& e) {
    const bool no_thread = e.code() == std::errc::resource_unavailable_try_again;
    if (no_thread)
      return absl::ResourceExhaustedError(
          "the system starts no more threads for this process: raise its limit (ulimit -u), or give it memory");
    return absl::InternalError(e.what());
  } catch (const std::exception& e) {
    // LibTorch's messages go on with a stack; the first line says what happened.
    const std::string what = e.what();
    return absl::InternalError(what.substr(0, what.find('\n')));
  }
}

// INVALID_ARGUMENT if a number of the call, or of what a peer votes on or asks about, is outside of what any step can have.
absl::Status CheckCall(const StepCall& call, int rank_count);
absl::Status CheckVoteKey(const VoteKey& key);

// FAILED_PRECONDITION for a step before and after those that can be taken; both are named.
absl::Status OldStepError(const std::string& head, bool evaluate, int64_t step, int64_t next_step);
absl::Status EarlyStepError(const std::string& head, bool evaluate, int64_t step, int64_t next_step);

// "... ranks 1, 3 of 4 did not come within 20s".
std::string MissingRanksMessage(const std::string& step, const std::vector<int32_t>& missing, int rank_count, absl::Duration deadline);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_STEP_ERRORS_H_
