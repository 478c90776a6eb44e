#include "worker/run_training.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <tuple>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/worker/fake_head.h"
#include "tests/worker/memory_dataset.h"
#include "worker/network_save.h"
#include "worker/peer_watch.h"

namespace myriad {
namespace {

constexpr int kIdentities = 24;
constexpr int kSide = 16;

// A whole run of one rank: a small network, a head in this process, pictures in memory.
struct TestRun {
  explicit TestRun(const std::string& metrics_name, uint64_t seed = 3, int epochs = 6, BackboneSpec spec = {})
      : head(kIdentities, 16, seed) {
    at::set_num_threads(1);
    metrics_path = testing::TempDir() + metrics_name;
    std::remove(metrics_path.c_str());
    spec.width = 8;
    spec.embedding_dim = 16;
    spec.image_size = kSide;
    backbone = *MakeBackbone(spec, seed);
    collectives = *Collectives::Connect({});
    reader_options.batch_size = 24;
    reader_options.seed = seed;
    reader_options.threads = 2;
    OpenReader();
    for (const NamedTensor& parameter : backbone->Parameters()) parts.step.parameters.push_back(parameter.tensor);
    reducer = *collectives->MakeGradientReducer(parts.step.parameters, 1 << 20, nullptr);
    optimizer = std::make_unique<BackboneSgd>(*BackboneSgd::Create({}, parts.step.parameters));
    metrics = std::make_unique<MetricsLog>(*MetricsLog::Open(metrics_path));
    set.name = "held-out";
    set.dataset = std::make_unique<MemoryDataset>(12, 4, kSide, 99, "other");
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < set.dataset->size(); ++i) labels.push_back(set.dataset->label(i));
    set.pairs = *DrawPairs(labels, 100, 1);
    set.false_accept_rates = {0.1};

    parts.step.backbone = backbone.get();
    parts.step.reducer = reducer.get();
    parts.step.optimizer = optimizer.get();
    parts.step.collectives = collectives.get();
    parts.step.heads = {{"made-up", &head, 1.0, 0}};
    parts.head_of_source = {0};
    parts.verifications = {{&set, 2.0}};
    parts.metrics = metrics.get();
    parts.print = [this](const std::string& line) { lines.push_back(line); };
    parts.stop = &stop;
    options.schedule.total_steps = epochs * reader->steps_per_epoch();
    options.schedule.learning_rate = 0.05;
    options.log_every_steps = 10;
  }

  void OpenReader() {
    BatchSource source;
    source.dataset = &dataset;
    reader = *BatchReader::Create({source}, reader_options);
    parts.reader = reader.get();
  }

  std::vector<nlohmann::json> Metrics() const {
    std::vector<nlohmann::json> all;
    std::ifstream file(metrics_path);
    for (std::string line; std::getline(file, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }

  MemoryDataset dataset{kIdentities, 20, kSide, 5, "made-up"};
  FakeHead head;
  std::unique_ptr<Backbone> backbone;
  std::unique_ptr<Collectives> collectives;
  BatchReaderOptions reader_options;
  std::unique_ptr<BatchReader> reader;
  std::unique_ptr<GradientReducer> reducer;
  std::unique_ptr<BackboneSgd> optimizer;
  std::unique_ptr<MetricsLog> metrics;
  VerificationSet set;
  std::atomic<bool> stop{false};
  std::vector<std::string> lines;
  std::string metrics_path;
  TrainingParts parts;
  TrainingOptions options;
};

TEST(RunTrainingTest, LossFallsAndUnseenIdentitiesAreToldApart) {
  TestRun run("learns.jsonl");
  auto result = RunTraining(run.parts, run.options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->steps, 120);
  EXPECT_FALSE(result->stopped);
  EXPECT_GT(result->first_verification, 0.9);

  std::vector<double> losses;
  std::vector<int64_t> verified_at;
  for (const nlohmann::json& line : run.Metrics()) {
    if (line.contains("loss")) {
      losses.push_back(line["loss"]);
      EXPECT_EQ(line["target_count"], 10 * 24);
      EXPECT_GT(line["images_per_second"], 0.0);
      EXPECT_GT(line["optimizer_seconds"], 0.0);
      EXPECT_LE(line["wait_head_seconds"].get<double>() + line["forward_seconds"].get<double>() + line["backward_seconds"].get<double>(),
                line["step_seconds"].get<double>());
    } else {
      verified_at.push_back(line["step"]);
      EXPECT_EQ(line["verification"], "held-out");
      EXPECT_TRUE(line["tar"].contains("0.1"));
    }
  }
  ASSERT_EQ(losses.size(), 12u);
  EXPECT_LT(losses.back(), 0.2 * losses.front());
  // Every second epoch of 20 steps; the one that follows the last step is that of epoch 6.
  EXPECT_EQ(verified_at, std::vector<int64_t>({40, 80, 120}));
}

TEST(RunTrainingTest, LinesForPeopleTellStepEpochAndVerification) {
  TestRun run("lines.jsonl", 3, 2);
  ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
  ASSERT_EQ(run.lines.size(), 5u);
  EXPECT_EQ(run.lines[0].rfind("step 10/40  epoch 0.50/2  loss ", 0), 0u) << run.lines[0];
  EXPECT_NE(run.lines[0].find(" images/s  ETA "), std::string::npos) << run.lines[0];
  EXPECT_NE(run.lines[3].find("ETA 0s"), std::string::npos) << run.lines[3];
  EXPECT_EQ(run.lines[4].rfind("verification held-out accuracy ", 0), 0u) << run.lines[4];
  EXPECT_NE(run.lines[4].find(" +- "), std::string::npos);
  EXPECT_NE(run.lines[4].find(" TAR@FAR=0.1 "), std::string::npos);
}

TEST(RunTrainingTest, HeadsAreToldTheLabelsOfTheStepsThatFollow) {
  for (int look_ahead_steps : {0, 3}) {
    TestRun run("ahead.jsonl", 3, 2);
    run.options.look_ahead_steps = look_ahead_steps;
    std::vector<std::vector<int64_t>> labels;
    std::vector<std::vector<std::vector<int64_t>>> told;
    run.head.on_step = [&](const StepInput& input) {
      labels.emplace_back(input.labels.begin(), input.labels.end());
      told.emplace_back(input.coming_labels.begin(), input.coming_labels.end());
    };
    ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
    ASSERT_EQ(labels.size(), 40u);
    for (size_t step = 0; step < labels.size(); ++step) {
      const size_t last = std::min(labels.size(), step + 1 + look_ahead_steps);
      EXPECT_EQ(told[step], (std::vector<std::vector<int64_t>>(labels.begin() + step + 1, labels.begin() + last))) << "step " << step;
    }
  }
}

TEST(RunTrainingTest, SkippedImagesAreCountedInTheirLinesAndInAll) {
  TestRun run("skipped.jsonl", 3, 2);
  run.dataset.broken = {7, 100, 479};
  BatchSource source;
  source.dataset = &run.dataset;
  source.skip_unreadable = true;
  BatchReaderOptions options;
  options.batch_size = 24;
  run.reader = *BatchReader::Create({source}, options);
  run.parts.reader = run.reader.get();
  auto result = RunTraining(run.parts, run.options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->skipped, 6);
  int64_t told = 0, used = 0;
  for (const nlohmann::json& line : run.Metrics()) {
    if (!line.contains("loss")) continue;
    told += line["skipped_count"].get<int64_t>();
    used += line["target_count"].get<int64_t>();
  }
  EXPECT_EQ(told, 6);
  EXPECT_EQ(used, 2 * 480 - 6);
}

TEST(RunTrainingTest, AVerificationMayBeCalledByAnyBytes) {
  TestRun run("bytes.jsonl", 3, 1);
  run.set.name = "caf\xe9";
  ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
  EXPECT_EQ(run.Metrics().back()["verification"], "caf\xef\xbf\xbd");
}

// The last window is shorter: 40 steps in lines of 30.
TEST(RunTrainingTest, FiguresAreMeansOverTheStepsOfTheirLine) {
  TestRun each("each.jsonl", 3, 2), windows("windows.jsonl", 3, 2);
  each.options.log_every_steps = 1;
  windows.options.log_every_steps = 30;
  for (TestRun* run : {&each, &windows}) ASSERT_TRUE(RunTraining(run->parts, run->options).ok());
  std::vector<nlohmann::json> steps, lines;
  for (const nlohmann::json& line : each.Metrics()) {
    if (line.contains("loss")) steps.push_back(line);
  }
  for (const nlohmann::json& line : windows.Metrics()) {
    if (line.contains("loss")) lines.push_back(line);
  }
  ASSERT_EQ(steps.size(), 40u);
  ASSERT_EQ(lines.size(), 2u);
  for (const auto& [number, first, last] : {std::tuple<size_t, size_t, size_t>{0, 0, 30}, {1, 30, 40}}) {
    double loss = 0.0, rows = 0.0;
    int64_t targets = 0;
    for (size_t t = first; t < last; ++t) {
      loss += steps[t]["loss"].get<double>() / static_cast<double>(last - first);
      rows += steps[t]["row_count"].get<double>() / static_cast<double>(last - first);
      targets += steps[t]["target_count"].get<int64_t>();
    }
    EXPECT_EQ(lines[number]["step"], last);
    EXPECT_NEAR(lines[number]["loss"].get<double>(), loss, 1e-9);
    EXPECT_NEAR(lines[number]["row_count"].get<double>(), rows, 1e-9);
    EXPECT_EQ(lines[number]["target_count"], targets);
    EXPECT_EQ(lines[number]["learning_rate"], steps[last - 1]["learning_rate"]);
  }
}

TEST(RunTrainingTest, ARunRepeatsBitForBitAndFollowsItsSeed) {
  TestRun a("a.jsonl", 3, 1), b("b.jsonl", 3, 1), c("c.jsonl", 4, 1);
  for (TestRun* run : {&a, &b, &c}) ASSERT_TRUE(RunTraining(run->parts, run->options).ok());
  const auto sa = a.backbone->State(), sb = b.backbone->State(), sc = c.backbone->State();
  bool differs = false;
  for (size_t i = 0; i < sa.size(); ++i) {
    EXPECT_TRUE(at::equal(sa[i].tensor, sb[i].tensor)) << sa[i].name;
    differs |= !at::equal(sa[i].tensor, sc[i].tensor);
  }
  EXPECT_TRUE(differs);
  EXPECT_TRUE(at::equal(a.head.weights(), b.head.weights()));
}

TEST(RunTrainingTest, TheHeadGetsTheScheduledRateOfEachStep) {
  TestRun run("rates.jsonl", 3, 1);
  run.options.schedule.warmup_steps = 5;
  ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
  ASSERT_EQ(run.head.learning_rates().size(), 20u);
  for (int64_t t = 0; t < 20; ++t) EXPECT_EQ(run.head.learning_rates()[t], LearningRate(run.options.schedule, t));
}

TEST(RunTrainingTest, AStopEndsTheRunAfterTheStep) {
  TestRun run("stop.jsonl");
  run.stop = true;
  auto result = RunTraining(run.parts, run.options);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->stopped);
  EXPECT_EQ(result->steps, 1);
  EXPECT_EQ(run.head.next_step(), 1);
}

// Stopped and saved in the middle of a line of the metrics, then taken up by another process's objects: the lines, the network and W of a
// run that was never stopped, with a network that draws (dropout) and momenta.
TEST(RunTrainingTest, ARunThatGoesOnFromASaveIsTheRunThatNeverStopped) {
  BackboneSpec drops;
  drops.network = BackboneSpec::Network::kIResNet;
  drops.depth = 18;
  drops.dropout = 0.4;
  TestRun straight("straight.jsonl", 3, 1, drops), first("stopped.jsonl", 3, 1, drops), second("unused.jsonl", 8, 1, drops);
  for (TestRun* run : {&straight, &first, &second}) {
    run->options.schedule.total_steps = 9;
    run->options.log_every_steps = 4;
    run->options.seed = 3;
  }
  ASSERT_TRUE(RunTraining(straight.parts, straight.options).ok());

  const std::string folder = testing::TempDir() + "network-save";
  std::filesystem::create_directories(folder);
  RunPosition saved;
  first.head.on_step = [&](const StepInput& input) { first.stop = input.step >= 4; };
  first.parts.save = [&](const RunPosition& position) {
    saved = position;
    return SaveNetwork({first.backbone.get(), first.optimizer.get(), first.collectives.get()}, folder).status();
  };
  auto stopped = RunTraining(first.parts, first.options);
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  ASSERT_TRUE(stopped->stopped);
  ASSERT_EQ(saved.steps, 6);
  EXPECT_EQ(saved.window.steps(), 2);
  EXPECT_EQ(first.Metrics().back()["step"], 6) << "who stops a run sees its last figures";

  first.head.on_step = nullptr;
  second.parts.step.heads = {{"made-up", &first.head, 1.0, 0}};
  const absl::Status loaded = LoadNetwork({second.backbone.get(), second.optimizer.get(), second.collectives.get()}, folder, 1);
  ASSERT_TRUE(loaded.ok()) << loaded;
  second.reader_options.seed = 3;
  second.reader_options.first_step = saved.steps;
  second.OpenReader();
  auto metrics = MetricsLog::OpenBehind(first.metrics_path, saved.metrics_bytes);
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  second.parts.metrics = &*metrics;
  second.options.start = saved;
  second.options.start.window = StepWindow::FromProto(saved.window.ToProto());
  auto result = RunTraining(second.parts, second.options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->steps, 9);

  const auto ended = second.backbone->State(), expected = straight.backbone->State();
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(ended[i].tensor, expected[i].tensor)) << expected[i].name;
  EXPECT_TRUE(at::equal(first.head.weights(), straight.head.weights()));
  const std::vector<nlohmann::json> lines = first.Metrics(), expected_lines = straight.Metrics();
  ASSERT_EQ(lines.size(), expected_lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const char* field : {"step", "loss", "target_cosine", "target_count", "row_count", "wire_bytes", "accuracy"}) {
      EXPECT_EQ(lines[i].value(field, -1.0), expected_lines[i].value(field, -1.0)) << field << " of line " << i;
    }
  }
}

TEST(RunTrainingTest, SavesAreMadeEverySoManyStepsAndAtTheEnd) {
  TestRun run("saves.jsonl", 3, 1);
  run.options.save_every_steps = 8;
  std::vector<int64_t> saved;
  std::atomic<bool> at_leisure{false};
  run.parts.at_leisure = &at_leisure;
  run.parts.save = [&](const RunPosition& position) {
    EXPECT_TRUE(at_leisure);
    EXPECT_EQ(run.head.next_step(), position.steps);
    saved.push_back(position.steps);
    return absl::OkStatus();
  };
  ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
  EXPECT_FALSE(at_leisure);
  EXPECT_EQ(saved, std::vector<int64_t>({8, 16, 20}));

  run.options.start.steps = 20;
  const auto over = RunTraining(run.parts, run.options);
  ASSERT_TRUE(over.ok());
  EXPECT_EQ(over->steps, 20);
  EXPECT_FALSE(over->first_verification.has_value()) << "there was nothing left to do";
  run.options.start.unverified = true;
  EXPECT_TRUE(RunTraining(run.parts, run.options)->first_verification.has_value()) << "a stop had left it out";
}

TEST(RunTrainingTest, ASaveThatFailsEndsTheRunOnlyWhereItIsTheLast) {
  TestRun run("full.jsonl", 3, 1);
  run.options.save_every_steps = 8;
  absl::Status failure = absl::ResourceExhaustedError("disk full");
  std::vector<int64_t> tried;
  run.parts.save = [&](const RunPosition& position) {
    tried.push_back(position.steps);
    return position.steps == 16 ? absl::OkStatus() : failure;
  };
  std::vector<std::string> printed;
  run.parts.print = [&](const std::string& line) { printed.push_back(line); };
  EXPECT_EQ(RunTraining(run.parts, run.options).status(), failure);
  EXPECT_EQ(tried, std::vector<int64_t>({8, 16, 20}));
  EXPECT_EQ(std::count(printed.begin(), printed.end(), "no save after step 8: disk full; the run goes on"), 1);

  // A run that is stopped is told that it is not saved.
  TestRun stopped("full-stop.jsonl", 3, 1);
  stopped.options.save_every_steps = 8;
  stopped.parts.save = run.parts.save;
  stopped.head.on_step = [&](const StepInput& input) { stopped.stop = input.step == 6; };
  EXPECT_EQ(RunTraining(stopped.parts, stopped.options).status(), failure);

  TestRun lost("lost.jsonl", 3, 1);
  lost.options.save_every_steps = 8;
  lost.parts.save = [&](const RunPosition&) { return PeerLostError("shard 1 is gone"); };
  EXPECT_TRUE(IsPeerLost(RunTraining(lost.parts, lost.options).status()));
  EXPECT_EQ(lost.head.next_step(), 8);
}

TEST(RunTrainingTest, Bfloat16LearnsToo) {
  TestRun run("bf16.jsonl", 3, 2);
  run.options.step.bfloat16 = true;
  run.options.embed.bfloat16 = true;
  ASSERT_TRUE(RunTraining(run.parts, run.options).ok());
  std::vector<double> losses;
  for (const nlohmann::json& line : run.Metrics()) {
    if (line.contains("loss")) losses.push_back(line["loss"]);
  }
  ASSERT_EQ(losses.size(), 4u);
  EXPECT_LT(losses.back(), 0.8 * losses.front());
  for (const at::Tensor& parameter : run.parts.step.parameters) EXPECT_EQ(parameter.scalar_type(), at::kFloat);
}

TEST(RunTrainingTest, AnErrorOfTheHeadEndsTheRun) {
  TestRun run("error.jsonl");
  run.head.fail_with = absl::DataLossError("shard 0 is gone");
  EXPECT_TRUE(absl::IsDataLoss(RunTraining(run.parts, run.options).status()));
}

}  // namespace
}  // namespace myriad
