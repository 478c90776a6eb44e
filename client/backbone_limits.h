#ifndef MYRIAD_CLIENT_BACKBONE_LIMITS_H_
#define MYRIAD_CLIENT_BACKBONE_LIMITS_H_

namespace myriad {

// Sizes that a network can have, ends included. One place for the configuration (job_rules.cc), which tells before anything is started, and
// for the networks themselves (worker/backbone).
struct SizeRange {
  int low;
  int high;
};
inline constexpr SizeRange kEmbeddingDims{1, 65536};
inline constexpr SizeRange kImageSizes{16, 1024};       // Side in pixels.
inline constexpr SizeRange kSmallResNetWidths{4, 512};  // Channels of the first stage.

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BACKBONE_LIMITS_H_
