#ifndef MYRIAD_TESTS_SERVER_STEP_ANSWERS_H_
#define MYRIAD_TESTS_SERVER_STEP_ANSWERS_H_

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "tests/testing/server/fake_cluster.h"

namespace myriad {

inline FakeCluster::Options Sized(int shards, int ranks) {
  FakeCluster::Options options;
  options.shards = shards;
  options.ranks = ranks;
  return options;
}

// How to go on after `status`, which must be an aborted step's.
inline StepAbort AbortOf(const absl::Status& status) {
  StepAbort abort;
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_TRUE(GetStepAbort(status, &abort)) << status;
  return abort;
}

inline void ExpectAllOk(const std::vector<std::shared_ptr<FakeAnswer>>& answers) {
  for (const auto& answer : answers) EXPECT_TRUE(answer->status().ok()) << answer->status();
}

}  // namespace myriad

#endif  // MYRIAD_TESTS_SERVER_STEP_ANSWERS_H_
