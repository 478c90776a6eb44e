#include "server/bench/measured.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace myriad {

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[(values.size() - 1) / 2];
}

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
  return json;
}

void PrintTable(const std::vector<Measured>& measured, std::ostream& out) {
  out << absl::StrFormat("%-28s %12s %10s   %12s %10s  %6s  %s\n", "", "rows/s", "MB/s", "bound rows/s", "MB/s", "ratio", "bound");
  for (const Measured& one : measured) {
    const double seconds = MedianOf(one.seconds);
    const double bound_seconds = MedianOf(one.bound_seconds);
    out << absl::StrFormat("%-28s %12.0f %10.0f   %12.0f %10.0f  %6.2f  %s\n", one.name, one.rows / seconds, one.bytes / seconds / 1e6,
                           one.rows / bound_seconds, one.bound_bytes / bound_seconds / 1e6, one.Ratio(), one.bound);
  }
}

}  // namespace myriad
