#ifndef MYRIAD_WORKER_DATA_PAIRS_H_
#define MYRIAD_WORKER_DATA_PAIRS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// Ten folds of equal size stand one after the other in a list of pairs.
inline constexpr int kVerificationFolds = 10;

// Two images of a split, and whether they show the same identity.
struct VerificationPair {
  int64_t first = 0;
  int64_t second = 0;
  bool same = false;
  friend bool operator==(const VerificationPair& a, const VerificationPair& b) {
    return a.first == b.first && a.second == b.second && a.same == b.same;
  }
};

// Reads lines of imageA<TAB>imageB<TAB>0|1.
// Errors: NOT_FOUND; INVALID_ARGUMENT naming file, line and value: an image outside [0, image_count), another number of columns, no pair,
// or a number of pairs that is no multiple of ten.
absl::StatusOr<std::vector<VerificationPair>> ReadPairs(const std::string& file, int64_t image_count);

// The text of `pairs` as ReadPairs() reads it.
std::string FormatPairs(absl::Span<const VerificationPair> pairs);

// Draws `count` distinct pairs of images with `labels`, a pure function of its arguments: every fold has as many same as different pairs.
// Same pairs: an identity at random, two of its images; different: two identities at random, an image of each.
// Errors: INVALID_ARGUMENT if `count` is not positive or no multiple of 20, or if the images give fewer pairs (names how many).
absl::StatusOr<std::vector<VerificationPair>> DrawPairs(absl::Span<const int64_t> labels, int64_t count, uint64_t seed);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_PAIRS_H_
