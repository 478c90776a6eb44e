#ifndef MYRIAD_TESTS_INTEGRATION_ORACLE_TRACE_H_
#define MYRIAD_TESTS_INTEGRATION_ORACLE_TRACE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "head/head_spec.h"
#include "tests/testing/client/rank_threads.h"
#include "tests/testing/training_oracle.h"

namespace myriad::testing {

// A run that the oracle and the code under test both make: the head, what the ranks bring, and for how many steps.
struct OracleRun {
  HeadSpec head;
  TrainingSpec training;
  std::vector<int64_t> batch_sizes;  // B_r of each rank; differs from step to step by rotation.
  int steps = 10;
  double learning_rate = 0.2;
  // The oracle begins each step from the rows as read back, where float32 drifts from float64 over ten steps.
  bool restart_each_step = false;
};

// The ranks' batch of a step: the same for the same arguments. Embeddings lie near the directions of their classes, so that cosines (and
// with them logits, margins and gradients) are as large as in a run that has learned something; labels repeat within a batch.
RankThreads::Batch MakeBatch(const OracleRun& run, int64_t step);

// Rows of a step over the whole class space.
std::vector<int64_t> RowsOfStep(const OracleRun& run, int64_t step, const std::vector<int64_t>& labels);

// Runs `run` through `ranks` (opened on any number of shards) and the oracle side by side and expects: loss to 1e-6 of its value, dX and W
// to 1e-5 of the largest element, equal figures on all ranks, and the rows that exist to be those that were used.
void ExpectRunEqualsOracle(const OracleRun& run, RankThreads* ranks);

}  // namespace myriad::testing

#endif  // MYRIAD_TESTS_INTEGRATION_ORACLE_TRACE_H_
