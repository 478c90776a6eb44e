#include "client/job_config.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

using config::v1::JobConfig;
using ::testing::HasSubstr;

constexpr char kSmallest[] = R"(
heads { spec { name: "glyphs" } }
datasets { path: "data/glyphs" }
backbone { small_resnet {} }
)";

JobConfig Parsed(const std::string& text) {
  absl::StatusOr<JobConfig> config = ParseJobConfig(text, "job.textproto");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : JobConfig();
}

JobConfig Filled(const std::string& text) {
  JobConfig config = Parsed(text);
  const absl::Status status = FillDefaults(&config);
  EXPECT_TRUE(status.ok()) << status;
  return config;
}

TEST(JobConfigTest, TheSmallestJobGetsEveryDefaultThatTheCommentsPromise) {
  const std::string text = std::string(kSmallest) + "verifications { path: \"data/pairs/\" } seed: 7";
  EXPECT_EQ(PrintJobConfig(Filled(text)), R"(heads {
  spec {
    name: "glyphs"
    embedding_dim: 128
    weight_dtype: DATA_TYPE_FLOAT32
    slot_dtype: DATA_TYPE_FLOAT32
    initial_deviation: 0.01
    sgd_slots {
    }
    partition_count: 4096
  }
  training {
    cosface {
      margin: 0.35
    }
    scale: 32
    sampling_seed: 7
    sgd {
      momentum: 0.9
      weight_decay: 0.0005
      rate_scale: 1
    }
    placement: PLACEMENT_SHARD
    idle_update: IDLE_UPDATE_SKIP
  }
  loss_weight: 1
}
datasets {
  path: "data/glyphs"
  format: FORMAT_AUTO
  split: "train"
  head: "glyphs"
}
backbone {
  small_resnet {
    width: 16
  }
  embedding_dim: 128
}
backbone_optimizer {
  momentum: 0.9
  weight_decay: 0.0005
}
schedule {
  learning_rate: 0.1
  cosine {
  }
}
training {
  batch_size: 128
  epochs: 8
  accumulation: 1
  precision: PRECISION_FLOAT32
  reader_threads: 1
  log_every_steps: 20
  gradient_bucket_mib: 4
  save_every_steps: 2000
  keep_saves: 2
  look_ahead_steps: 2
  final_rows: FINAL_ROWS_WEIGHTS
}
verifications {
  name: "pairs"
  path: "data/pairs/"
  split: "eval"
  every_epochs: 1
  false_accept_rates: 0.01
  false_accept_rates: 0.001
}
local {
  shards: 1
  workers: 1
}
run_dir: "runs/glyphs"
seed: 7
)");
}

TEST(JobConfigTest, WhatIsPrintedIsReadBackAndFillingInAgainChangesNothing) {
  const JobConfig config = Filled(kSmallest);
  const std::string text = PrintJobConfig(config);
  EXPECT_EQ(PrintJobConfig(Filled(text)), text);
}

TEST(JobConfigTest, WrittenZerosThatMeanSomethingStay) {
  const JobConfig config = Filled(R"(
    heads { spec { name: "a" } training { cosface { margin: 0 } sgd { momentum: 0 } uniform { sample_count: 0 } } }
    datasets { path: "d" }
    backbone { small_resnet {} }
    backbone_optimizer { momentum: 0.8 weight_decay: 0 }
    training { steps: 10 keep_saves: 0 })");
  EXPECT_EQ(config.training().keep_saves(), 0) << "a job that keeps none";
  EXPECT_EQ(config.heads(0).training().cosface().margin(), 0.0);
  EXPECT_EQ(config.heads(0).training().sgd().momentum(), 0.0);
  EXPECT_EQ(config.heads(0).training().sgd().weight_decay(), 0.0);
  EXPECT_EQ(config.heads(0).training().uniform().sample_count(), 0);
  EXPECT_EQ(config.backbone_optimizer().momentum(), 0.8);
  EXPECT_EQ(config.training().epochs(), 0.0) << "a job of 10 steps has no length in epochs";
}

TEST(JobConfigTest, DefaultsOfOneofMembersFillInWhatTheJobLeavesOpen) {
  const JobConfig config = Filled(R"(
    heads { spec { name: "a" } training { arcface {} sgd { rate_scale: 2 } } }
    datasets { path: "d" }
    backbone { iresnet {} }
    schedule { polynomial {} })");
  EXPECT_EQ(config.heads(0).training().arcface().margin(), 0.5);
  EXPECT_EQ(config.heads(0).training().sgd().momentum(), 0.9);
  EXPECT_EQ(config.heads(0).training().sgd().rate_scale(), 2.0);
  EXPECT_EQ(config.backbone().iresnet().depth(), 50);
  const JobConfig others = Filled(R"(
    heads { spec { name: "a" } training { adamw {} } }
    heads { spec { name: "b" } training { adagrad { rate_scale: 2 } } }
    datasets { path: "d" head: "a" }
    datasets { path: "e" head: "b" }
    backbone { iresnet {} })");
  EXPECT_TRUE(others.heads(0).spec().has_adamw_slots());
  EXPECT_EQ(others.heads(0).training().adamw().beta1(), 0.9);
  EXPECT_EQ(others.heads(0).training().adamw().beta2(), 0.999);
  EXPECT_EQ(others.heads(0).training().adamw().epsilon(), 1e-8);
  EXPECT_EQ(others.heads(0).training().adamw().weight_decay(), 0.01);
  EXPECT_EQ(others.heads(0).training().adamw().rate_scale(), 1.0);
  EXPECT_TRUE(others.heads(1).spec().has_adagrad_slots());
  EXPECT_EQ(others.heads(1).training().adagrad().epsilon(), 1e-10);
  EXPECT_EQ(others.heads(1).training().adagrad().rate_scale(), 2.0);
  EXPECT_EQ(config.heads(0).spec().embedding_dim(), 512);
  EXPECT_EQ(config.schedule().polynomial().power(), 2.0);
}

struct Bad {
  const char* text;
  const char* message;
};

TEST(JobConfigTest, BadTextIsToldByLineAndColumn) {
  const std::vector<Bad> cases = {
      {"seed: 1\nhead_s { }", "job.textproto:2:8: Message type \"myriad.config.v1.JobConfig\" has no field named \"head_s\"."},
      {"training {\n  batch: 3\n}", "job.textproto:2:8: Message type \"myriad.config.v1.TrainingConfig\" has no field named \"batch\"."},
      {"training { batch_size: many }", "job.textproto:1:24: Expected integer, got: many"},
      {"training { batch_size: 1 batch_size: 2 }", "specified multiple times"},
      {"heads { training { all {} positives_only {} } }", "is specified along with"},
      {"training {", "Expected identifier"},
      {"training { precision: FLOAT8 }", "Unknown enumeration value of \"FLOAT8\""},
      {"training {\n  batch_size: 0 }", "job.textproto:2:3: training.batch_size is 0; it must be in [1, 2147483647]"},
      {"schedule { learning_rate: 0 }", "job.textproto:1:12: schedule.learning_rate is 0; it must be > 0 and finite"},
      {"schedule { learning_rate: nan }", "schedule.learning_rate is nan; it must be > 0 and finite"},
      {"heads { spec { class_count: 0 } }", "heads[0].spec.class_count is 0; it must be in [1, 2^40]"},
      {"heads {} heads { training { scale: -3 } }", "heads[1].training.scale is -3; it must be in (0, 1024]"},
      {"verifications { false_accept_rates: [0.1, 1] }", "verifications[0].false_accept_rates[1] is 1; it must be in (0, 1)"},
      {"backbone_optimizer { momentum: 1 }", "backbone_optimizer.momentum is 1; it must be in [0, 1)"},
      {"backbone { small_resnet { width: 2 } }", "backbone.small_resnet.width is 2; it must be in [4, 512]"},
      {"backbone { image_size: 8 }", "backbone.image_size is 8; it must be in [16, 1024]"},
      {"backbone { image_size: 2000 }", "backbone.image_size is 2000; it must be in [16, 1024]"},
      {"datasets { augmentation { max_shift: 0.6 } }", "datasets[0].augmentation.max_shift is 0.6; it must be in [0, 0.5]"},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.text);
    const absl::Status status = ParseJobConfig(bad.text, "job.textproto").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  }
  EXPECT_EQ(LoadJobConfig("/nowhere/job.textproto").status().code(), absl::StatusCode::kNotFound);
}

TEST(JobConfigTest, FieldsThatDoNotFitEachOtherAreNamed) {
  const std::string data = "datasets { path: \"d\" } ";
  const std::string net = "backbone { small_resnet {} } ";
  const std::string head = "heads { spec { name: \"a\" } } ";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {data + net, "heads is empty"},
      {head + net, "datasets is empty"},
      {head + data, "backbone has no network"},
      {"heads {} " + data + net, "heads[0].spec.name is "},
      {"heads { spec { name: \"a/b\" } } " + data + net, "heads[0].spec.name is \"a/b\""},
      {head + head + data + net, "heads[1].spec.name is a, the name of another head"},
      {head + "datasets {} " + net, "datasets[0].path is empty"},
      {head + "datasets { path: \"d\" head: \"b\" } " + net, "datasets[0].head is b; the heads are a"},
      {head + "heads { spec { name: \"b\" } } " + data + net, "head b has no data set"},
      {"heads { spec { name: \"a\" embedding_dim: 64 } } " + data + net,
       "heads[0].spec.embedding_dim is 64; backbone.embedding_dim is 128: they must be equal"},
      {head + data + "backbone { iresnet { depth: 51 } }", "backbone.iresnet.depth is 51; it must be 18, 34, 50 or 100"},
      {head + data + "backbone { small_resnet {} channels: 2 }", "backbone.channels is 2; it must be 1 or 3"},
      {head + data + net + "local { workers: 4 } training { batch_size: 7 accumulation: 2 }", "training.batch_size is 7; it must be >= 8"},
      {head + data + net + "schedule { warmup_steps: 11 } training { steps: 10 }",
       "schedule.warmup_steps is 11; the whole run has training.steps 10"},
      {"heads { spec { name: \"a\" } training { placement: PLACEMENT_WORKER } } " + data + net + "training { accumulation: 2 }",
       "training.accumulation is 2; it must be 1 where logits are computed at the workers: heads[0].training.placement is "
       "PLACEMENT_WORKER"},
      {head + data + net + "schedule { step { milestone_epochs: [2, 2] } }", "schedule.step.milestone_epochs has 2 after 2"},
      {head + data + net + "verifications {}", "verifications[0].path is empty"},
      {head + data + net + "verifications { path: \"x/v\" } verifications { path: \"y/v\" }", "verifications[1].name is v"},
      {"heads { spec { name: \"a\" partition_count: 8 } } " + data + net, "heads[0].spec.partition_count is 8"},
      {head + data + net + "local { memory: '2 GB' }",
       "local.memory is 2 GB; it must be a number of bytes, or of KiB, MiB, GiB or TiB: 2GiB"},
      {head + data + net + "local { memory: '-1' }", "local.memory is -1;"},
      {"heads { spec { name: \"a\" sgd_slots {} } training { adagrad {} } } " + data + net, "heads[0].training.optimizer is adagrad"},
      {"heads { spec { name: \"a\" } training { adamw {} idle_update: IDLE_UPDATE_EXACT } } " + data + net,
       "heads[0].training.idle_update is exact"},
      {head + data + net + "training { precision: 9 }", "training.precision is 9, not one of PRECISION_FLOAT32, PRECISION_BFLOAT16"},
  };
  for (const auto& [text, message] : cases) {
    SCOPED_TRACE(text);
    JobConfig config = Parsed(text);
    const absl::Status status = FillDefaults(&config);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  }
}

TEST(JobConfigTest, SetReachesEveryKindOfField) {
  JobConfig config = Parsed(kSmallest);
  for (const char* assignment : {
           "training.batch_size=256",
           "training.precision=BFLOAT16",
           "schedule.learning_rate=1e-2",
           "heads.0.training.scale=64",
           "heads[0].training.arcface.margin=0.3",
           "heads[0].training.arcface.gradient=ARC_FACE_GRADIENT_STRAIGHT_THROUGH",
           "heads[0].training.uniform={sample_count: 100}",
           "heads[1].spec.name=products",
           "datasets[1].path=a path with = and \"quotes\"",
           "datasets[1].head=\"products\"",
           "datasets[1].skip_unreadable=true",
           "schedule.step.milestone_epochs=[2, 4]",
           "schedule.step.milestone_epochs[2]=5",
           "schedule.step.milestone_epochs[0]=1",
           "backbone_optimizer.momentum=0",
           "verifications[0].path=d",
           "verifications=[]",
           "seed=18446744073709551615",
       }) {
    const absl::Status status = SetField(assignment, &config);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(config.training().batch_size(), 256);
  EXPECT_EQ(config.training().precision(), config::v1::TrainingConfig::PRECISION_BFLOAT16);
  EXPECT_EQ(config.schedule().learning_rate(), 0.01);
  EXPECT_EQ(config.heads(0).training().scale(), 64);
  EXPECT_EQ(config.heads(0).training().arcface().margin(), 0.3);
  EXPECT_EQ(config.heads(0).training().arcface().gradient(), v1::ARC_FACE_GRADIENT_STRAIGHT_THROUGH);
  EXPECT_EQ(config.heads(0).training().uniform().sample_count(), 100);
  ASSERT_EQ(config.heads_size(), 2);
  EXPECT_EQ(config.heads(1).spec().name(), "products");
  EXPECT_EQ(config.datasets(1).path(), "a path with = and \"quotes\"");
  EXPECT_EQ(config.datasets(1).head(), "products");
  EXPECT_TRUE(config.datasets(1).skip_unreadable());
  EXPECT_THAT(config.schedule().step().milestone_epochs(), ::testing::ElementsAre(1, 4, 5));
  EXPECT_TRUE(config.backbone_optimizer().has_momentum());
  EXPECT_EQ(config.backbone_optimizer().momentum(), 0.0);
  EXPECT_EQ(config.seed(), 18446744073709551615u);
  EXPECT_EQ(config.verifications_size(), 0) << "[] clears a repeated field";
  // A oneof takes the member that was named last.
  EXPECT_TRUE(SetField("heads[0].training.cosface.margin=0.4", &config).ok());
  EXPECT_FALSE(config.heads(0).training().has_arcface());
}

TEST(JobConfigTest, ABadSetIsOneLineAndChangesNothing) {
  const std::vector<Bad> cases = {
      {"training.batch_size", "--set training.batch_size: not PATH=VALUE"},
      {"=3", "not PATH=VALUE"},
      {"trainin.batch_size=3", "a job configuration has no field 'trainin'; it has heads, datasets, backbone"},
      {"training.batch=3", "training has no field 'batch'; it has batch_size, epochs"},
      {"training.batch_size.x=3", "training.batch_size is a whole number and has no field 'x'"},
      {"training.batch_size=3.5", "--set training.batch_size=3.5: training.batch_size takes a whole number"},
      {"training.batch_size=99999999999", "training.batch_size takes a whole number"},
      {"training.batch_size=", "training.batch_size takes a whole number"},
      {"training.batch_size=3 steps: 9", "training.batch_size takes a whole number"},
      {"training.batch_size=0", "training.batch_size is 0; it must be in [1, 2147483647]"},
      {"schedule.learning_rate=-1", "schedule.learning_rate is -1; it must be > 0"},
      {"training.precision=FLOAT8", "training.precision takes one of PRECISION_FLOAT32, PRECISION_BFLOAT16"},
      {"training.precision=9", "training.precision takes one of"},
      {"heads.training.scale=3", "heads is repeated: write heads[0].training"},
      {"heads[2].training.scale=3", "heads has 1 elements; index 2 is not in [0, 1]"},
      {"training[0].batch_size=3", "training is not repeated and takes no index"},
      {"training..batch_size=3", "is no field path"},
      {"0.training=3", "'0' is no index"},
      {"backbone.iresnet={depth: 50, dept: 3}", "backbone.iresnet takes a message {depth, dropout}"},
      {"datasets[0].skip_unreadable=maybe", "takes true or false"},
  };
  const JobConfig before = Parsed(kSmallest);
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.text);
    JobConfig config = before;
    const absl::Status status = SetField(bad.text, &config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
    EXPECT_EQ(PrintJobConfig(config), PrintJobConfig(before));
  }
}

DataFacts Facts(int64_t classes) {
  DataFacts facts;
  facts.class_counts["glyphs"] = classes;
  facts.image_size = 48;
  facts.channels = 1;
  return facts;
}

TEST(JobConfigTest, DataFillsInTheRest) {
  JobConfig config = Filled(kSmallest);
  ASSERT_TRUE(ResolveWithData(Facts(16384), &config).ok());
  EXPECT_EQ(config.heads(0).spec().class_count(), 16384);
  EXPECT_EQ(config.backbone().image_size(), 48);
  EXPECT_EQ(config.backbone().channels(), 1);
  EXPECT_TRUE(config.heads(0).training().has_all());

  config = Filled(kSmallest);
  ASSERT_TRUE(ResolveWithData(Facts(16385), &config).ok());
  EXPECT_EQ(config.heads(0).training().uniform().sample_count(), 16384);

  config = Filled(std::string(kSmallest) + "");
  ASSERT_TRUE(SetField("heads[0].training.uniform={}", &config).ok());
  ASSERT_TRUE(FillDefaults(&config).ok());
  ASSERT_TRUE(ResolveWithData(Facts(100), &config).ok());
  EXPECT_EQ(config.heads(0).training().uniform().sample_count(), 100);

  for (const auto& [classes, pool_size] : std::vector<std::pair<int64_t, int64_t>>{{100, 100}, {1'000'000, 524'288}}) {
    config = Filled(kSmallest);
    ASSERT_TRUE(SetField("heads[0].training.pool={}", &config).ok());
    ASSERT_TRUE(FillDefaults(&config).ok());
    ASSERT_TRUE(ResolveWithData(Facts(classes), &config).ok());
    const v1::PoolSampler& pool = config.heads(0).training().pool();
    EXPECT_EQ(pool.sample_count(), std::min<int64_t>(classes, 16'384));
    EXPECT_EQ(pool.pool_size(), pool_size);
    EXPECT_EQ(pool.rotated_rows(), pool.sample_count() / 16);
  }
  config = Filled(kSmallest);
  ASSERT_TRUE(SetField("heads[0].training.block={}", &config).ok());
  ASSERT_TRUE(ResolveWithData(Facts(1'000'000), &config).ok());
  EXPECT_EQ(config.heads(0).training().block().sample_count(), 16'384);
}

TEST(JobConfigTest, DataThatDoesNotFitTheJobIsRefused) {
  JobConfig config = Filled(R"(heads { spec { name: "glyphs" class_count: 10 } training { uniform { sample_count: 10 } } }
    datasets { path: "d" } backbone { small_resnet {} })");
  JobConfig refused = config;
  EXPECT_THAT(std::string(ResolveWithData(Facts(11), &refused).message()),
              HasSubstr("heads[0].spec.class_count is 10; its data sets have 11 identities"));
  refused = config;
  EXPECT_TRUE(ResolveWithData(Facts(9), &refused).ok()) << "a head may have room for more";
  refused = Filled(R"(heads { spec { name: "glyphs" } training { uniform { sample_count: 10 } } }
    datasets { path: "d" } backbone { small_resnet {} })");
  EXPECT_THAT(std::string(ResolveWithData(Facts(9), &refused).message()), HasSubstr("10"));
  refused = Filled(R"(heads { spec { name: "glyphs" } training { pool { sample_count: 10 pool_size: 20 } } }
    datasets { path: "d" } backbone { small_resnet {} })");
  EXPECT_THAT(std::string(ResolveWithData(Facts(19), &refused).message()),
              HasSubstr("heads[0].training.sampler.pool_size is 20; it must be in [10, 19]"));
  refused = Filled(kSmallest);
  EXPECT_THAT(std::string(ResolveWithData(Facts(0), &refused).message()), HasSubstr("head glyphs has no class"));
  refused = Filled(kSmallest);
  DataFacts facts = Facts(9);
  facts.image_size = 0;
  EXPECT_THAT(std::string(ResolveWithData(facts, &refused).message()), HasSubstr("backbone.image_size"));
  facts.image_size = 4000;
  EXPECT_THAT(std::string(ResolveWithData(facts, &refused).message()),
              HasSubstr("the images of the first data set have 4000 pixels; choose backbone.image_size in [16, 1024]"));
}

}  // namespace
}  // namespace myriad
