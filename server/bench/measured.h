#ifndef MYRIAD_SERVER_BENCH_MEASURED_H_
#define MYRIAD_SERVER_BENCH_MEASURED_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace myriad {

// What was measured beside a bound of it, taking turns, so that a machine whose speed moves moves both.
struct Measured {
  std::string name;
  std::string bound;  // What the bound is.
  int64_t rows = 0;   // Of a round.
  int64_t bytes = 0;  // Of these rows, or what the bound moves.
  int64_t bound_bytes = 0;
  std::vector<double> seconds{};  // Of each round.
  std::vector<double> bound_seconds{};
  std::vector<double> cpu_seconds{};  // Of the whole process in each round, the bound's not among them; empty: not measured.

  // Does `work` as the next round, and times it. Errors: those of `work`; nothing is added then.
  absl::Status Time(absl::FunctionRef<absl::Status()> work);
  // Processors that were at work on average, of the medians; 0: not measured.
  double Processors() const;
  // Rate over the bound's, of the medians: rows against the same rows.
  double Ratio() const;
};

// That this process has used, of all its threads.
double CpuSeconds();

double MedianOf(std::vector<double> values);

nlohmann::ordered_json ToJson(const Measured& measured);
void PrintTable(const std::vector<Measured>& measured, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_SERVER_BENCH_MEASURED_H_
