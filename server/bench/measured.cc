#include "server/bench/measured.h"

#include <sys/resource.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[(values.size() - 1) / 2];
}

absl::Status Measured::Time(absl::FunctionRef<absl::Status()> work) {
  const absl::Time start = absl::Now();
  const double cpu_before = CpuSeconds();
  if (absl::Status status = work(); !status.ok()) return status;
  seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  cpu_seconds.push_back(CpuSeconds() - cpu_before);
  return absl::OkStatus();
}

double Measured::Processors() const { return MedianOf(cpu_seconds) / MedianOf(seconds); }

double Measured::Ratio() const { return MedianOf(bound_seconds) / MedianOf(seconds); }

nlohmann::ordered_json ToJson(const Measured& measured) {
  nlohmann::ordered_json json;
  const double seconds = MedianOf(measured.seconds);
  const double bound_seconds = MedianOf(measured.bound_seconds);
  std::vector<double> ratios;
  for (size_t i = 0; i < measured.seconds.size(); ++i) ratios.push_back(measured.bound_seconds[i] / measured.seconds[i]);
  const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
  json["rows"] = measured.rows;
  json["seconds_median"] = seconds;
  json["rows_per_second"] = measured.rows / seconds;
  json["bytes_per_second"] = measured.bytes / seconds;
  json["bound"] = measured.bound;
  json["bound_seconds_median"] = bound_seconds;
  json["bound_rows_per_second"] = measured.rows / bound_seconds;
  json["bound_bytes_per_second"] = measured.bound_bytes / bound_seconds;
  json["ratio"] = measured.Ratio();
  json["ratio_min"] = *least;
  json["ratio_max"] = *most;
  if (!measured.cpu_seconds.empty()) json["processors_at_work"] = measured.Processors();
  return json;
}

void PrintTable(const std::vector<Measured>& measured, std::ostream& out) {
  const unsigned processors = std::thread::hardware_concurrency();
  out << absl::StrFormat("%-20s %10s %6s   %12s %6s  %5s  %s  %s\n", "", "rows/s", "MB/s", "bound rows/s", "MB/s", "ratio",
                         absl::StrFormat("busy of %d", processors), "bound");
  for (const Measured& one : measured) {
    const double seconds = MedianOf(one.seconds);
    const double bound_seconds = MedianOf(one.bound_seconds);
    out << absl::StrFormat("%-20s %10.0f %6.0f   %12.0f %6.0f  %5.2f  %9s  %s\n", one.name, one.rows / seconds, one.bytes / seconds / 1e6,
                           one.rows / bound_seconds, one.bound_bytes / bound_seconds / 1e6, one.Ratio(),
                           one.cpu_seconds.empty() ? "" : absl::StrFormat("%.1f", one.Processors()), one.bound);
  }
}

}  // namespace myriad
