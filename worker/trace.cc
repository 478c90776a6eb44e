#include "worker/trace.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <nlohmann/json.hpp>

#include "client/file_util.h"

namespace myriad {

int64_t Trace::Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Trace::Add(Span span) {
  absl::MutexLock lock(&mu_);
  if (spans_.size() < max_spans_) spans_.push_back(std::move(span));
}

std::vector<Trace::Span> Trace::spans() const {
  absl::MutexLock lock(&mu_);
  return spans_;
}

absl::Status Trace::WriteChromeJson(int process, const std::string& path) const {
  const std::vector<Span> spans = this->spans();
  int64_t origin = spans.empty() ? 0 : spans.front().start_ns;
  for (const Span& span : spans) origin = std::min(origin, span.start_ns);
  nlohmann::json events = nlohmann::json::array();
  for (const Span& span : spans) {
    nlohmann::json arguments = {{"step", span.step}};
    if (span.bytes > 0) arguments["bytes"] = span.bytes;
    events.push_back({{"name", span.name},
                      {"ph", "X"},
                      {"pid", process},
                      {"tid", span.track},
                      {"ts", static_cast<double>(span.start_ns - origin) / 1e3},
                      {"dur", static_cast<double>(span.end_ns - span.start_ns) / 1e3},
                      {"args", std::move(arguments)}});
  }
  return WriteFileAtomically(path, nlohmann::json({{"traceEvents", std::move(events)}}).dump());
}

}  // namespace myriad
