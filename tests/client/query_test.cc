#include "client/query.h"

#include <cmath>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/head_rows.h"
#include "client/row_file_writer.h"
#include "client/run_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "head/virtual_rows.h"
#include "myriad/v1/center_shard.pb.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "tests/testing/client/fake_shard.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::myriad::testing::FakeShard;
using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr int kClasses = 20;
constexpr int kDim = 3;

HeadSpec Spec() {
  HeadSpec spec;
  spec.name = "glyphs";
  spec.class_count = kClasses;
  spec.embedding_dim = kDim;
  return spec;
}

// Classes divisible by 4 have a row: (id, 1, 0).
bool Exists(int64_t class_id) { return class_id % 4 == 0; }
std::vector<float> Weights(int64_t class_id) {
  std::vector<float> row = {static_cast<float>(class_id), 1.0f, 0.0f};
  if (!Exists(class_id)) FillVirtualRow(Spec(), class_id, row.data());
  return row;
}

v1::HeadInfo Info() {
  v1::HeadInfo info;
  *info.mutable_head() = ToProto(Spec());
  TrainingSpec training;
  training.sampler.kind = SamplerOptions::Kind::kUniform;
  training.sampler.sample_count = 10;
  *info.mutable_training() = ToProto(training);
  info.set_incarnation(2);
  info.set_committed_steps(34);
  info.set_row_count(5);
  info.set_shard_count(1);
  return info;
}

// A run as a training run leaves it.
void MakeRun(const std::string& path) {
  const auto folder = RunFolder::Create(path);
  ASSERT_TRUE(folder.ok());
  ASSERT_TRUE(folder->WriteConfig({}).ok());
  ASSERT_TRUE(folder->WriteHeadInfo(Info()).ok());
  std::string names;
  for (int i = 0; i < kClasses; ++i) absl::StrAppend(&names, "name ", i, "\n");
  WriteText(folder->identities_path("glyphs"), names);
  // In the order of no class, in 16-bit numbers: those of Weights() are exact.
  for (const auto& [index, ids] : std::map<int, std::vector<int64_t>>{{0, {12, 0, 16}}, {1, {8, 4}}}) {
    RowFileWriter::Options file;
    file.path = HeadRowsPath(folder->head_folder("glyphs"), index, 2);
    file.head = *ParseHeadSpec(Info().head());
    file.committed_steps = 34;
    file.row_count = static_cast<int64_t>(ids.size());
    file.dtype = DataType::kBFloat16;
    auto rows = RowFileWriter::Create(file);
    ASSERT_TRUE(rows.ok());
    for (int64_t id : ids) ASSERT_TRUE((*rows)->Append({id}, Weights(id).data(), nullptr).ok());
    ASSERT_TRUE((*rows)->Finish().ok());
  }
}

QueryOptions FromRun(const std::string& path, bool json) {
  QueryOptions options;
  options.run_dir = path;
  options.json = json;
  return options;
}

CenterSelection Classes(const std::string& classes) {
  CenterSelection selection;
  selection.classes = classes;
  return selection;
}

Json Centers(const QueryOptions& options, const CenterSelection& selection) {
  std::ostringstream out;
  const absl::Status status = QueryCenters(options, selection, out);
  EXPECT_TRUE(status.ok()) << status;
  return status.ok() ? Json::parse(out.str()) : Json();
}

void ExpectCenter(const Json& center, int64_t class_id) {
  EXPECT_EQ(center["class_id"], class_id);
  EXPECT_EQ(center["exists"], Exists(class_id));
  EXPECT_EQ(center["values"].get<std::vector<float>>(), Weights(class_id)) << "class " << class_id;
}

TEST(QueryTest, ARunFolderTellsItsHeadWithoutServers) {
  TempDir dir;
  MakeRun(dir.File("run"));
  std::ostringstream text;
  ASSERT_TRUE(QueryHeads(FromRun(dir.File("run"), false), text).ok());
  EXPECT_EQ(text.str(), R"(head glyphs
  classes          20
  embedding dim    3
  rows that exist  5 (the others are virtual)
  steps            34 committed, incarnation 2
  stored as        weights float32, slots float32
  fresh rows       deviation 0.01, seed 0
  margin           cosface 0.35, scale 32
  sampler          uniform of 10, seed 0
  optimizer        sgd momentum 0.9, weight decay 0.0005, rate x 1
  compute at       shard
  shards           1
)");
  std::ostringstream json;
  ASSERT_TRUE(QueryHeads(FromRun(dir.File("run"), true), json).ok());
  const Json head = Json::parse(json.str())["heads"][0];
  EXPECT_EQ(head["name"], "glyphs");
  EXPECT_EQ(head["class_count"], 20);
  EXPECT_EQ(head["committed_steps"], 34);
  EXPECT_EQ(head["training"]["sampler"]["sample_count"], 10);
}

TEST(QueryTest, ARotatingPoolIsToldWithItsSizes) {
  TempDir dir;
  MakeRun(dir.File("run"));
  v1::HeadInfo info = Info();
  info.mutable_training()->mutable_pool()->set_sample_count(4);
  info.mutable_training()->mutable_pool()->set_pool_size(16);
  ASSERT_TRUE(RunFolder::Open(dir.File("run"))->WriteHeadInfo(info).ok());
  std::ostringstream text, json;
  ASSERT_TRUE(QueryHeads(FromRun(dir.File("run"), false), text).ok());
  EXPECT_THAT(text.str(), ::testing::HasSubstr("  sampler          pool of 4 out of 16, 1 replaced a step, seed 0\n"));
  ASSERT_TRUE(QueryHeads(FromRun(dir.File("run"), true), json).ok());
  const Json sampler = Json::parse(json.str())["heads"][0]["training"]["sampler"];
  EXPECT_EQ(sampler, Json({{"kind", "pool"}, {"sample_count", 4}, {"pool_size", 16}, {"rotated_rows", 1}}));
}

TEST(QueryTest, CentersComeByIdRangeAndName) {
  TempDir dir;
  MakeRun(dir.File("run"));
  const QueryOptions options = FromRun(dir.File("run"), true);
  CenterSelection selection = Classes("8,3-5");
  selection.identities = {"name 12", "name 7"};
  const Json json = Centers(options, selection);
  ASSERT_EQ(json["centers"].size(), 6);
  int i = 0;
  for (int64_t id : {8, 3, 4, 5, 12, 7}) {
    ExpectCenter(json["centers"][i], id);
    EXPECT_EQ(json["centers"][i]["identity"], absl::StrCat("name ", id));
    ++i;
  }
  // cos((8, 1, 0), (4, 1, 0)).
  EXPECT_NEAR(json["cosines"][0][2].get<double>(), 33 / std::sqrt(65.0 * 17.0), 1e-12);
  EXPECT_NEAR(json["cosines"][1][1].get<double>(), 1.0, 1e-12);

  std::ostringstream text;
  selection = Classes("4,8");
  selection.shown_values = 2;
  ASSERT_TRUE(QueryCenters(FromRun(dir.File("run"), false), selection, text).ok());
  EXPECT_EQ(text.str(),
            "head glyphs: 20 classes x 3, step 34\n"
            "class 4  name 4  norm 4.1231  4 1 ... (1 more)\n"
            "class 8  name 8  norm 8.0623  8 1 ... (1 more)\n"
            "cosine              4          8\n"
            "         4     1.0000     0.9927\n"
            "         8     0.9927     1.0000\n");
}

TEST(QueryTest, WhatCannotBeReadIsOneLineAndNothingIsPrinted) {
  TempDir dir;
  MakeRun(dir.File("run"));
  const QueryOptions run = FromRun(dir.File("run"), false);
  QueryOptions other_head = run;
  other_head.head = "faces";
  QueryOptions both = run;
  both.shards = {"127.0.0.1:1"};
  QueryOptions no_address;
  no_address.shards = {"127.0.0.1"};
  CenterSelection stranger;
  stranger.identities = {"nobody"};
  const std::vector<std::tuple<QueryOptions, CenterSelection, std::string>> cases = {
      {run, Classes("20"), "class 20 is not in [0, 20) of head glyphs"},
      {run, Classes("-1"), "'-1' is no class id"},
      {run, Classes("5-3"), "'5-3' is no class id and no range"},
      {run, Classes("two"), "'two' is no class id"},
      {run, Classes(""), "say which centers"},
      {run, stranger, "no identity is named 'nobody'"},
      {other_head, Classes("1"), "there is no head 'faces'; there is glyphs"},
      {FromRun(dir.File("none"), false), Classes("1"), "does not exist"},
      {FromRun(dir.path(), false), Classes("1"), "is not a run folder"},
      {both, Classes("1"), "either --run DIR or --shards"},
      {QueryOptions(), Classes("1"), "either --run DIR or --shards"},
      {no_address, Classes("1"), "'127.0.0.1' is no shard address"},
  };
  for (const auto& [options, selection, message] : cases) {
    SCOPED_TRACE(message);
    std::ostringstream out;
    const absl::Status status = QueryCenters(options, selection, out);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
    EXPECT_EQ(out.str(), "");
  }
}

// Two shards that hold the head of the run folder between them.
class TwoShards {
 public:
  TwoShards() {
    for (int k = 0; k < 2; ++k) {
      shards_[k].list_heads = [k](grpc::ServerContext*, const v1::ListHeadsRequest&, v1::ListHeadsResponse* response) {
        v1::HeadInfo* info = response->add_heads();
        *info = Info();
        info->set_shard_index(k);
        info->set_shard_count(2);
        info->set_row_count(2 + k);
        info->set_committed_steps(34 + k);
        return absl::OkStatus();
      };
      shards_[k].fetch_centers = [k](grpc::ServerContext*, const v1::FetchCentersRequest& request,
                                     grpc::ServerWriter<v1::FetchCentersResponse>* writer) -> absl::Status {
        const Partitions partitions(kClasses, Spec().seed);
        const auto ids = DecodeArray<int64_t>(request.class_ids(), "class_ids");
        v1::FetchCentersResponse response;
        std::vector<float> rows;
        for (int64_t id : *ids) {
          if (partitions.ShardOfClass(id, 2) != k) return absl::FailedPreconditionError(absl::StrCat("class ", id, " is elsewhere"));
          for (float value : Weights(id)) rows.push_back(value);
          response.mutable_exists()->push_back(Exists(id) ? 1 : 0);
        }
        response.set_class_ids(request.class_ids());
        EncodeMatrix(rows, ids->size(), kDim, DataType::kFloat32, response.mutable_centers());
        response.set_last_step(EncodeArray<int64_t>(std::vector<int64_t>(ids->size(), 3)));
        writer->Write(response);
        return absl::OkStatus();
      };
    }
  }
  FakeShard& shard(int k) { return shards_[k]; }
  // In the wrong order: the shards know theirs.
  QueryOptions Options() {
    QueryOptions options;
    options.shards = {shards_[1].address(), shards_[0].address()};
    options.json = true;
    return options;
  }

 private:
  FakeShard shards_[2];
};

TEST(QueryTest, ServersAnswerAsTheRunFolderDoes) {
  TempDir dir;
  MakeRun(dir.File("run"));
  TwoShards servers;
  std::ostringstream out;
  ASSERT_TRUE(QueryHeads(servers.Options(), out).ok());
  const Json head = Json::parse(out.str())["heads"][0];
  EXPECT_EQ(head["row_count"], 5);
  EXPECT_EQ(head["committed_steps"], 34) << "what all shards have";
  EXPECT_EQ(head["shards"][0]["address"], servers.shard(0).address());

  QueryOptions options = servers.Options();
  options.catalogue_path = dir.File("run") + "/head/glyphs/identities.tsv";
  CenterSelection selection = Classes("19,0-6,6");
  selection.identities = {"name 8"};
  const Json centers = Centers(options, selection);
  int i = 0;
  for (int64_t id : {19, 0, 1, 2, 3, 4, 5, 6, 6, 8}) ExpectCenter(centers["centers"][i++], id);
  EXPECT_EQ(centers, Centers(FromRun(dir.File("run"), true), selection));
}

TEST(QueryTest, ServersThatDoNotAnswerOrDoNotFitAreNamed) {
  TwoShards servers;
  QueryOptions one = servers.Options();
  one.shards.pop_back();
  std::ostringstream out;
  EXPECT_THAT(std::string(QueryCenters(one, Classes("1"), out).message()), HasSubstr("head glyphs has 2 shards; --shards names 1 of them"));
  QueryOptions twice = servers.Options();
  twice.shards[0] = twice.shards[1];
  EXPECT_THAT(std::string(QueryHeads(twice, out).message()), HasSubstr("it is shard 0 of head glyphs, as is "));
  QueryOptions unnamed = servers.Options();
  CenterSelection by_name;
  by_name.identities = {"name 1"};
  EXPECT_THAT(std::string(QueryCenters(unnamed, by_name, out).message()), HasSubstr("give one with --catalogue"));

  const std::string gone = servers.shard(0).address();
  QueryOptions options = servers.Options();
  servers.shard(0).Stop();
  const absl::Status status = QueryHeads(options, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(gone, " does not answer (waited up to 5s)")));
  EXPECT_EQ(out.str(), "");
}

TEST(QueryTest, AServerThatHangsIsGivenUpAfterTheTimeout) {
  FakeShard shard;
  shard.list_heads = [](grpc::ServerContext* context, const v1::ListHeadsRequest&, v1::ListHeadsResponse*) {
    return FakeShard::WaitForCancel(context);
  };
  QueryOptions options;
  options.shards = {shard.address()};
  options.timeout = absl::Milliseconds(20);
  std::ostringstream out;
  EXPECT_THAT(std::string(QueryHeads(options, out).message()), HasSubstr(shard.address() + " does not answer (waited up to 20ms)"));

  // The centers too, and no longer than that.
  FakeShard fetched;
  fetched.list_heads = [](grpc::ServerContext*, const v1::ListHeadsRequest&, v1::ListHeadsResponse* response) {
    *response->add_heads() = Info();
    return absl::OkStatus();
  };
  fetched.fetch_centers = [](grpc::ServerContext* context, const v1::FetchCentersRequest&, grpc::ServerWriter<v1::FetchCentersResponse>*) {
    return FakeShard::WaitForCancel(context);
  };
  options.shards = {fetched.address()};
  options.timeout = absl::Seconds(1);
  const absl::Status status = QueryCenters(options, Classes("1"), out);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(fetched.address() + "): no answer within 1s"));
}

TEST(QueryTest, AnAnswerThatDoesNotFitInMemoryIsRefused) {
  TempDir dir;
  const auto folder = RunFolder::Create(dir.File("run"));
  ASSERT_TRUE(folder.ok() && folder->WriteConfig(config::v1::JobConfig()).ok());
  v1::HeadInfo info = Info();
  info.mutable_head()->set_class_count(int64_t{1} << 30);
  info.mutable_head()->set_embedding_dim(512);
  ASSERT_TRUE(folder->WriteHeadInfo(info).ok());
  QueryOptions options;
  options.run_dir = folder->path();
  std::ostringstream out;
  EXPECT_THAT(std::string(QueryCenters(options, Classes("0-32768"), out).message()),
              HasSubstr("'0-32768': more than 32768 centers of 512 numbers at once"));
}

}  // namespace
}  // namespace myriad
