#include "head/head_spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace myriad {
namespace {

HeadSpec GoodHead() {
  HeadSpec head;
  head.name = "faces";
  head.class_count = 1000;
  head.embedding_dim = 512;
  return head;
}

TEST(HeadSpecTest, LimitsThemselvesAreValid) {
  HeadSpec head = GoodHead();
  EXPECT_TRUE(Validate(head).ok());
  head.name = std::string(64, 'a');
  head.class_count = int64_t{1} << 40;
  head.embedding_dim = 65536;
  EXPECT_TRUE(Validate(head).ok());
  head.name = "A-z_09";
  head.class_count = 1;
  head.embedding_dim = 1;
  EXPECT_TRUE(Validate(head).ok());
}

TEST(HeadSpecTest, AFieldOutOfRangeIsNamedWithValueAndRange) {
  struct Case {
    void (*spoil)(HeadSpec&);
    const char* message;
  };
  const std::vector<Case> cases = {
      {[](HeadSpec& h) { h.name = ""; }, "head.name is \"\"; it must be 1 to 64 letters, digits, '-' or '_'"},
      {[](HeadSpec& h) { h.name = "a/b"; }, "head.name is \"a/b\""},
      {[](HeadSpec& h) { h.name = std::string(65, 'a'); }, "head.name is"},
      {[](HeadSpec& h) { h.class_count = 0; }, "head.class_count is 0; it must be in [1, 2^40]"},
      {[](HeadSpec& h) { h.class_count = (int64_t{1} << 40) + 1; }, "head.class_count is 1099511627777"},
      {[](HeadSpec& h) { h.embedding_dim = -3; }, "head.embedding_dim is -3; it must be in [1, 65536]"},
      {[](HeadSpec& h) { h.embedding_dim = 65537; }, "head.embedding_dim is 65537"},
      {[](HeadSpec& h) { h.initial_deviation = 0; }, "head.initial_deviation is 0; it must be > 0 and finite"},
      {[](HeadSpec& h) { h.initial_deviation = std::nan(""); }, "head.initial_deviation is nan"},
      {[](HeadSpec& h) { h.initial_deviation = std::numeric_limits<double>::infinity(); }, "head.initial_deviation is inf"},
      {[](HeadSpec& h) { h.initial_deviation = 3e38; }, "head.initial_deviation is 3e+38; it must be > 0 and finite in float32"},
      {[](HeadSpec& h) { h.partition_count = 8; }, "head.partition_count is 8; it must be 4096"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    HeadSpec head = GoodHead();
    c.spoil(head);
    const absl::Status status = Validate(head);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(c.message), absl::string_view::npos) << status;
  }
}

TEST(TrainingSpecTest, AFieldOutOfRangeIsNamedWithValueAndRange) {
  struct Case {
    void (*spoil)(TrainingSpec&);
    const char* message;
  };
  const std::vector<Case> cases = {
      {[](TrainingSpec& t) { t.margin.margin = -0.1; }, "training.margin.margin is -0.1; it must be in [0, 2]"},
      {[](TrainingSpec& t) { t.margin.margin = std::nan(""); }, "training.margin.margin is nan"},
      {[](TrainingSpec& t) {
         t.margin = {MarginOptions::Kind::kArcFace, 1.6, 64.0};
       },
       "training.margin.margin is 1.6; it must be in [0, pi/2]"},
      {[](TrainingSpec& t) { t.margin.scale = 0; }, "training.scale is 0; it must be in (0, 1024]"},
      {[](TrainingSpec& t) { t.margin.scale = 1025; }, "training.scale is 1025"},
      {[](TrainingSpec& t) { t.sampler.sample_count = 1001; },
       "training.sampler.sample_count is 1001; it must be in [0, 1000], the head's class_count"},
      {[](TrainingSpec& t) { t.sampler.sample_count = -1; }, "training.sampler.sample_count is -1"},
      {[](TrainingSpec& t) { t.sampler.kind = SamplerOptions::Kind::kAllSample; },
       "training.sampler.sample_count is 0; it must be in [1, 1000]"},
      {[](TrainingSpec& t) { t.sampler.kind = SamplerOptions::Kind::kBlock; },
       "training.sampler.sample_count is 0; it must be in [1, 1000]"},
      {[](TrainingSpec& t) {
         t.sampler = {SamplerOptions::Kind::kPool, 10, 9, 1};
       },
       "training.sampler.pool_size is 9; it must be in [10, 1000], from sample_count to the head's class_count"},
      {[](TrainingSpec& t) {
         t.sampler = {SamplerOptions::Kind::kPool, 10, 1001, 1};
       },
       "training.sampler.pool_size is 1001"},
      {[](TrainingSpec& t) {
         t.sampler = {SamplerOptions::Kind::kPool, 10, 20, 0};
       },
       "training.sampler.rotated_rows is 0; it must be in [1, 20], the pool_size"},
      {[](TrainingSpec& t) {
         t.sampler = {SamplerOptions::Kind::kPool, 10, 20, 21};
       },
       "training.sampler.rotated_rows is 21"},
      {[](TrainingSpec& t) { t.optimizer.momentum = 1.0; }, "training.sgd.momentum is 1; it must be in [0, 1)"},
      {[](TrainingSpec& t) { t.optimizer.weight_decay = -1e-4; }, "training.sgd.weight_decay is -0.0001; it must be >= 0 and finite"},
      {[](TrainingSpec& t) { t.optimizer.rate_scale = 0; }, "training.sgd.rate_scale is 0; it must be > 0 and finite"},
  };
  EXPECT_TRUE(Validate(TrainingSpec(), GoodHead()).ok());
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    TrainingSpec training;
    c.spoil(training);
    const absl::Status status = Validate(training, GoodHead());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(c.message), absl::string_view::npos) << status;
  }
}

TEST(TrainingSpecTest, AnOptimizersFieldsAreItsOwn) {
  struct Case {
    OptimizerKind kind;
    void (*spoil)(OptimizerOptions&);
    const char* message;
  };
  const std::vector<Case> cases = {
      {OptimizerKind::kAdamW, [](OptimizerOptions& o) { o.beta1 = 1.0; }, "training.adamw.beta1 is 1; it must be in [0, 1)"},
      {OptimizerKind::kAdamW, [](OptimizerOptions& o) { o.beta2 = -0.5; }, "training.adamw.beta2 is -0.5; it must be in [0, 1)"},
      {OptimizerKind::kAdamW, [](OptimizerOptions& o) { o.epsilon = 0.0; }, "training.adamw.epsilon is 0; it must be > 0 and finite"},
      {OptimizerKind::kAdamW, [](OptimizerOptions& o) { o.momentum = 5.0; }, nullptr},
      {OptimizerKind::kAdagrad, [](OptimizerOptions& o) { o.epsilon = 1e-60; }, "training.adagrad.epsilon is 1e-60"},
      {OptimizerKind::kAdagrad, [](OptimizerOptions& o) { o.weight_decay = std::nan(""); }, "training.adagrad.weight_decay is nan"},
      {OptimizerKind::kAdagrad, [](OptimizerOptions& o) { o.rate_scale = -1.0; }, "training.adagrad.rate_scale is -1"},
      {OptimizerKind::kAdagrad, [](OptimizerOptions& o) { o.beta1 = 5.0; }, nullptr},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message == nullptr ? "fields of others" : c.message);
    HeadSpec head = GoodHead();
    head.slots = c.kind;
    TrainingSpec training;
    training.optimizer.kind = c.kind;
    EXPECT_TRUE(Validate(training, head).ok());
    c.spoil(training.optimizer);
    const absl::Status status = Validate(training, head);
    if (c.message == nullptr) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(c.message), absl::string_view::npos) << status;
  }
}

TEST(TrainingSpecTest, AnOptimizerMustFitTheSlotsOfTheRows) {
  HeadSpec head = GoodHead();
  head.slots = OptimizerKind::kAdagrad;
  TrainingSpec training;
  training.optimizer.kind = OptimizerKind::kAdamW;
  const absl::Status status = Validate(training, head);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "training.optimizer is adamw; the head's rows keep the slots of adagrad");
}

TEST(TrainingSpecTest, OnlySgdMovesIdleRowsExactly) {
  HeadSpec head = GoodHead();
  TrainingSpec training;
  training.optimizer.idle_update = IdleUpdate::kExact;
  EXPECT_TRUE(Validate(training, head).ok());
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kAdagrad}) {
    head.slots = training.optimizer.kind = kind;
    const absl::Status status = Validate(training, head);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("no linear map"), absl::string_view::npos) << status;
  }
}

TEST(HeadSpecTest, SlotNumbersAreThoseOfTheOptimizer) {
  HeadSpec head = GoodHead();
  EXPECT_EQ(SlotNumbers(head), 512);
  head.slots = OptimizerKind::kAdagrad;
  EXPECT_EQ(SlotNumbers(head), 512);
  head.slots = OptimizerKind::kAdamW;
  EXPECT_EQ(SlotNumbers(head), 1025);
}

TEST(HeadSpecTest, ADifferenceNamesTheFieldAndBothValues) {
  const HeadSpec a = GoodHead();
  EXPECT_TRUE(CheckSame(a, "shard 2", a, "this run").ok());
  HeadSpec b = a;
  b.initial_deviation = 0.02;
  const absl::Status status = CheckSame(a, "shard 2", b, "this run");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "head.initial_deviation is 0.01 at shard 2 and 0.02 at this run");
  EXPECT_TRUE(a != b);
  EXPECT_TRUE(a == a);
}

TEST(HeadSpecTest, EveryFieldIsCompared) {
  const std::vector<void (*)(HeadSpec&)> changes = {
      [](HeadSpec& h) { h.name = "other"; },
      [](HeadSpec& h) { h.class_count = 7; },
      [](HeadSpec& h) { h.embedding_dim = 7; },
      [](HeadSpec& h) { h.weight_dtype = DataType::kFloat16; },
      [](HeadSpec& h) { h.seed = 7; },
      [](HeadSpec& h) { h.slot_dtype = DataType::kFloat16; },
      [](HeadSpec& h) { h.slots = OptimizerKind::kAdagrad; },
      [](HeadSpec& h) { h.initial_deviation = std::nextafter(0.01, 1.0); },
      [](HeadSpec& h) { h.partition_count = 7; },
  };
  for (const auto& change : changes) {
    HeadSpec changed = GoodHead();
    change(changed);
    const absl::Status status = CheckSame(GoodHead(), "a", changed, "b");
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_FALSE(GoodHead() == changed);
  }
}

TEST(TrainingSpecTest, EveryFieldIsCompared) {
  const std::vector<void (*)(TrainingSpec&)> changes = {
      [](TrainingSpec& t) { t.margin.kind = MarginOptions::Kind::kArcFace; },
      [](TrainingSpec& t) { t.margin.margin = 0.1; },
      [](TrainingSpec& t) { t.margin.scale = 1; },
      [](TrainingSpec& t) { t.sampler.kind = SamplerOptions::Kind::kAll; },
      [](TrainingSpec& t) { t.sampler.sample_count = 1; },
      [](TrainingSpec& t) { t.sampler.pool_size = 1; },
      [](TrainingSpec& t) { t.sampler.rotated_rows = 1; },
      [](TrainingSpec& t) { t.sampler.seed = 1; },
      [](TrainingSpec& t) { t.optimizer.momentum = 0.1; },
      [](TrainingSpec& t) { t.optimizer.weight_decay = 0.1; },
      [](TrainingSpec& t) { t.optimizer.decoupled_weight_decay = true; },
      [](TrainingSpec& t) { t.optimizer.rate_scale = 0.1; },
      [](TrainingSpec& t) { t.optimizer.kind = OptimizerKind::kAdamW; },
      [](TrainingSpec& t) { t.optimizer.beta1 = 0.1; },
      [](TrainingSpec& t) { t.optimizer.beta2 = 0.1; },
      [](TrainingSpec& t) { t.optimizer.epsilon = 0.1; },
      [](TrainingSpec& t) { t.optimizer.idle_update = IdleUpdate::kExact; },
      [](TrainingSpec& t) { t.placement = Placement::kWorker; },
  };
  EXPECT_TRUE(CheckSame(TrainingSpec(), "a", TrainingSpec(), "b").ok());
  for (const auto& change : changes) {
    TrainingSpec changed;
    change(changed);
    EXPECT_EQ(CheckSame(TrainingSpec(), "a", changed, "b").code(), absl::StatusCode::kFailedPrecondition);
  }
}

// Two doubles that differ in their last bit do not look equal in the message.
TEST(HeadSpecTest, NumbersThatDifferAreWrittenSo) {
  HeadSpec a = GoodHead(), b = GoodHead();
  b.initial_deviation = std::nextafter(b.initial_deviation, 1.0);
  const std::string message(CheckSame(a, "a", b, "b").message());
  EXPECT_EQ(message, "head.initial_deviation is 0.01 at a and 0.010000000000000002 at b");
}

}  // namespace
}  // namespace myriad
