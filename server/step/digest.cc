#include "server/step/digest.h"

#include <cstring>

#include <xxhash.h>

namespace myriad {

struct Digester::State {
  alignas(64) XXH3_state_t xxh;
};

Digester::Digester() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }
Digester::~Digester() = default;

Digester& Digester::Add(absl::string_view bytes) {
  Add(static_cast<int64_t>(bytes.size()));
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
  return *this;
}

Digester& Digester::Add(int64_t value) {
  XXH3_128bits_update(&state_->xxh, &value, sizeof(value));
  return *this;
}

Digester& Digester::Add(double value) {
  XXH3_128bits_update(&state_->xxh, &value, sizeof(value));
  return *this;
}

Digest Digester::Finish() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->xxh));
  return Digest(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
}

}  // namespace myriad
