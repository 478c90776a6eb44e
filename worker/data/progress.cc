#include "worker/data/progress.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace myriad {

Progress::Progress(std::ostream* out, std::string verb, std::string unit, int64_t total)
    : out_(out), verb_(std::move(verb)), unit_(std::move(unit)), total_(total), start_(absl::Now()), last_(start_) {}

void Progress::Update(int64_t done) {
  const absl::Time now = absl::Now();
  if (out_ == nullptr || now - last_ < absl::Seconds(2)) return;
  last_ = now;
  const int64_t rate = static_cast<int64_t>(done / absl::ToDoubleSeconds(now - start_));
  *out_ << absl::StrCat(verb_, " ", done, "/", total_, " ", unit_, ", ", rate, "/s\n") << std::flush;
}

}  // namespace myriad
