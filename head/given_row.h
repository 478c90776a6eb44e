#ifndef MYRIAD_HEAD_GIVEN_ROW_H_
#define MYRIAD_HEAD_GIVEN_ROW_H_

#include "absl/status/status.h"
#include "head/head_spec.h"

namespace myriad {

// Whether a row that comes from outside can be one of `head`'s: D `weights` and, unless nullptr, SlotNumbers(head) `slots`. Every number is
// finite and lies in what its stored type holds (a step rounds to the type's largest number instead, but what is given is kept or
// refused); second moments, sums of squares and counts of updates are not negative, for a step takes their roots. Pure, thread-safe.
// Errors: INVALID_ARGUMENT naming the number: "number 3 is not finite", "slot number 7 is 70000; float16 holds 65504 at most".
absl::Status CheckGivenRow(const HeadSpec& head, const float* weights, const float* slots);

}  // namespace myriad

#endif  // MYRIAD_HEAD_GIVEN_ROW_H_
