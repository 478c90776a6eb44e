// More classes for a head, over real shards.
#include "client/grow_head.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "client/head_client.h"
#include "client/safetensors.h"
#include "client/shard_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "head/virtual_rows.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kDim = 6;
constexpr int64_t kClasses = 5000;

HeadSpec Spec(int64_t classes = kClasses) {
  HeadSpec spec;
  spec.name = "faces";
  spec.class_count = classes;
  spec.embedding_dim = kDim;
  spec.seed = 4;
  return spec;
}

std::unique_ptr<HeadClient> Connect(const ShardCluster& shards, int64_t classes) {
  HeadClient::Options options;
  options.head = Spec(classes);
  options.training.sampler.kind = SamplerOptions::Kind::kUniform;
  options.training.sampler.sample_count = 300;
  options.shard_addresses = shards.addresses();
  auto client = HeadClient::Create(options);
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

absl::Status Step(HeadClient* client, int64_t step, const std::vector<int64_t>& labels) {
  StepInput input;
  input.step = step;
  input.embeddings = at::ones({static_cast<int64_t>(labels.size()), kDim}).add(at::eye(labels.size(), kDim));
  input.labels = labels;
  input.learning_rate = 0.1;
  return client->Step(input).status();
}

// Rows that exist, by class.
std::map<int64_t, std::vector<float>> Rows(HeadClient* client) {
  std::map<int64_t, std::vector<float>> rows;
  const absl::Status status = client->ReadRows(/*with_slots=*/false, [&](const RowBatch& batch) {
    for (size_t i = 0; i < batch.class_ids.size(); ++i) {
      const float* row = batch.weights.const_data_ptr<float>() + i * kDim;
      rows.emplace(batch.class_ids[i], std::vector<float>(row, row + kDim));
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

double Norm(const std::vector<float>& row) { return std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0)); }

void WriteEmbeddings(const std::string& path, int64_t rows, const std::vector<float>& values) {
  const auto writer = SafetensorsWriter::Create(path, {{"weights", TensorType::kF32, {rows, kDim}}}, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(0, AsBytes(absl::MakeConstSpan(values))).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

// Grows one shard alone, as a command that was broken off leaves it.
absl::Status GrowOne(const ShardCluster& shards, int index, int64_t classes, int64_t step, bool check_only = false) {
  ShardClient shard(index, shards.addresses()[index]);
  v1::GrowHeadRequest request;
  *request.mutable_head() = ToProto(Spec());
  request.set_shard_index(index);
  request.set_shard_count(static_cast<int>(shards.addresses().size()));
  request.set_class_count(classes);
  request.set_committed_steps(step);
  request.set_check_only(check_only);
  grpc::ClientContext context;
  v1::GrowHeadResponse response;
  return FromGrpcStatus(shard.admin().GrowHead(&context, request, &response));
}

class GrowHeadTest : public ::testing::Test {
 protected:
  // A head that was trained for two steps.
  void Train() {
    client_ = Connect(shards_, kClasses);
    ASSERT_TRUE(client_->Open(1).ok());
    ASSERT_TRUE(Step(client_.get(), 0, {1, 2, 3}).ok());
    ASSERT_TRUE(Step(client_.get(), 1, {4, 4999}).ok());
    rows_ = Rows(client_.get());
    ASSERT_GT(rows_.size(), 300u);
  }
  GrowOptions To(int64_t classes) {
    GrowOptions options;
    options.shards = shards_.addresses();
    options.class_count = classes;
    return options;
  }
  absl::Status Run(const GrowOptions& options) {
    out_.str("");
    return GrowHead(options, out_);
  }

  ShardCluster shards_{2};
  std::unique_ptr<HeadClient> client_;
  std::map<int64_t, std::vector<float>> rows_;
  TempDir dir_;
  std::ostringstream out_;
};

TEST_F(GrowHeadTest, OldRowsStayAndNewClassesAreVirtualAndCanBeTrained) {
  Train();
  ASSERT_TRUE(Run(To(12000)).ok());
  EXPECT_EQ(out_.str(), "head faces has 12000 classes from step 2 on: 7000 new, virtual\n");
  const std::unique_ptr<HeadClient> grown = Connect(shards_, 12000);
  EXPECT_EQ(Rows(grown.get()), rows_);
  std::vector<bool> exists;
  const std::vector<int64_t> ids = {5000, 8191, 11999};
  const auto fresh = grown->FetchCenters(ids, &exists);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<float> expected(kDim);
    FillVirtualRow(Spec(12000), ids[i], expected.data());
    EXPECT_FALSE(exists[i]);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), fresh->const_data_ptr<float>() + i * kDim)) << ids[i];
  }

  // The run that had it open has ended; a new one goes on at the same step.
  const absl::Status ended = Step(client_.get(), 2, {1});
  EXPECT_EQ(ended.code(), absl::StatusCode::kFailedPrecondition) << ended;
  EXPECT_THAT(std::string(ended.message()), HasSubstr("has grown to 12000 classes"));
  const auto minted = grown->MintIncarnation();
  ASSERT_TRUE(minted.ok());
  EXPECT_EQ(*minted, 2);
  const auto step = grown->Open(*minted);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(*step, 2);
  ASSERT_TRUE(Step(grown.get(), 2, {11999, 1}).ok());
  EXPECT_EQ(Rows(grown.get()).count(11999), 1u);
  // One that does not know is refused with both numbers.
  const absl::Status unaware = Connect(shards_, kClasses)->Open(9).status();
  EXPECT_EQ(unaware.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(unaware.message()), ::testing::AllOf(HasSubstr("12000"), HasSubstr("5000")));
}

TEST_F(GrowHeadTest, NamesAreAppendedToTheCatalogueAndRowsStartFromEmbeddingsOfTheCommonNorm) {
  Train();
  std::string names;
  for (int64_t i = 0; i < kClasses; ++i) absl::StrAppend(&names, "id-", i, "\n");
  WriteText(dir_.File("identities.tsv"), names);
  WriteText(dir_.File("new"), "zoe\nyan\nxin\n");
  std::vector<float> embeddings(3 * kDim);
  std::iota(embeddings.begin(), embeddings.end(), 1.0f);
  WriteEmbeddings(dir_.File("means.safetensors"), 3, embeddings);
  GrowOptions options = To(0);
  options.identities_path = dir_.File("new");
  options.catalogue_path = dir_.File("identities.tsv");
  options.embeddings_path = dir_.File("means.safetensors");
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(), StartsWith(absl::StrCat("head faces has 5003 classes from step 2 on: 3 new, 3 rows from ",
                                                  dir_.File("means.safetensors"), ", of norm ")));
  EXPECT_EQ(ReadText(dir_.File("identities.tsv")), names + "zoe\nyan\nxin\n");

  const auto rows = Rows(Connect(shards_, 5003).get());
  EXPECT_EQ(rows.size(), rows_.size() + 3);
  double mean = 0;
  // The sample of up to 4,096 classes is of those that exist.
  int64_t sampled = 0;
  for (int64_t i = 0; i < 4096; ++i) {
    const auto row = rows_.find(static_cast<int64_t>(static_cast<double>(i) / 4096 * kClasses));
    if (row == rows_.end()) continue;
    mean += Norm(row->second);
    ++sampled;
  }
  mean /= sampled;
  for (int64_t i = 0; i < 3; ++i) {
    const std::vector<float> given(embeddings.begin() + i * kDim, embeddings.begin() + (i + 1) * kDim);
    const std::vector<float>& row = rows.at(kClasses + i);
    EXPECT_NEAR(Norm(row), mean, 1e-5);
    for (int d = 0; d < kDim; ++d) EXPECT_NEAR(row[d] / Norm(row), given[d] / Norm(given), 1e-6);
  }
  for (const auto& [id, row] : rows_) EXPECT_EQ(rows.at(id), row);

  // Once more: the names are there.
  const absl::Status again = Run(options);
  EXPECT_EQ(again.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(again.message()), HasSubstr("new:1: identity name 'zoe' is already that of class 5000"));
}

// A job may give a head more classes than it has names for: those are for names to come.
TEST_F(GrowHeadTest, NamesTakeSpareClassesFirst) {
  Train();
  std::string names;
  for (int64_t i = 0; i < kClasses - 2; ++i) absl::StrAppend(&names, "id-", i, "\n");
  WriteText(dir_.File("identities.tsv"), names);
  WriteText(dir_.File("one"), "zoe\n");
  WriteText(dir_.File("more"), "yan\nxin\n");
  GrowOptions options = To(0);
  options.identities_path = dir_.File("one");
  options.catalogue_path = dir_.File("identities.tsv");
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(),
              StartsWith("head faces has 5000 classes from step 2 on: 1 new (1 of them it had spare), virtual; their names are in "));
  options.identities_path = dir_.File("more");
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(), StartsWith("head faces has 5001 classes from step 2 on: 2 new (1 of them it had spare), virtual"));
  EXPECT_EQ(ReadText(dir_.File("identities.tsv")), names + "zoe\nyan\nxin\n");
  EXPECT_EQ(Rows(Connect(shards_, 5001).get()), rows_);
}

TEST_F(GrowHeadTest, ACatalogueThatCannotBeWrittenIsFoundBeforeAnythingChanges) {
  Train();
  std::string names;
  for (int64_t i = 0; i < kClasses; ++i) absl::StrAppend(&names, "id-", i, "\n");
  WriteText(dir_.File("identities.tsv"), names);
  WriteText(dir_.File("new"), "zoe\n");
  std::filesystem::create_directory(dir_.File("identities.tsv.grown"));  // In the way of the new one.
  GrowOptions options = To(0);
  options.identities_path = dir_.File("new");
  options.catalogue_path = dir_.File("identities.tsv");
  EXPECT_THAT(std::string(Run(options).message()), HasSubstr("identities.tsv.grown"));
  EXPECT_EQ(ReadText(dir_.File("identities.tsv")), names);
  EXPECT_TRUE(Step(client_.get(), 2, {1, 2}).ok()) << "the run goes on";
}

TEST_F(GrowHeadTest, BrokenOffBetweenTwoShardsTheSameCommandCompletesIt) {
  Train();
  ASSERT_TRUE(GrowOne(shards_, 0, 9000, 2).ok());
  ASSERT_TRUE(GrowOne(shards_, 0, 9000, 2).ok()) << "a repeat does nothing";
  // Nobody can open it with either number.
  for (const int64_t classes : {kClasses, int64_t{9000}}) {
    const absl::Status refused = Connect(shards_, classes)->Open(5).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
    EXPECT_THAT(std::string(refused.message()), ::testing::AllOf(HasSubstr("9000"), HasSubstr("5000")));
  }
  EXPECT_THAT(std::string(Run(To(8000)).message()), HasSubstr("has 9000 classes; it cannot grow"));

  std::vector<float> embeddings(4000 * kDim, 1.0f);
  WriteEmbeddings(dir_.File("means.safetensors"), 4000, embeddings);
  GrowOptions options = To(9000);
  options.embeddings_path = dir_.File("means.safetensors");
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(), StartsWith("head faces has 9000 classes from step 2 on: 4000 new, 4000 rows from "));
  const std::unique_ptr<HeadClient> grown = Connect(shards_, 9000);
  auto rows = Rows(grown.get());
  EXPECT_EQ(rows.size(), rows_.size() + 4000);
  // Some shard may have taken the number that was tried above.
  const auto minted = grown->MintIncarnation();
  ASSERT_TRUE(minted.ok()) << minted.status();
  ASSERT_TRUE(grown->Open(*minted).ok());
  ASSERT_TRUE(Step(grown.get(), 2, {8999}).ok());

  // Repeated after training, it takes back nothing that was learnt.
  rows = Rows(grown.get());
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("4000 new, 0 rows from"), HasSubstr("(the other 4000 had one)")));
  EXPECT_EQ(Rows(Connect(shards_, 9000).get()), rows);
}

TEST_F(GrowHeadTest, OnDiskTheNewNumberOutlivesTheServers) {
  std::vector<MyriadServer::Options> servers(2, ShardCluster::Defaults());
  for (size_t k = 0; k < servers.size(); ++k) {
    servers[k].store = dir_.File(absl::StrCat("store-", k));
    servers[k].memory_bytes = int64_t{256} << 20;
  }
  ShardCluster stored(servers);
  client_ = Connect(stored, kClasses);
  ASSERT_TRUE(client_->Open(1).ok());
  ASSERT_TRUE(Step(client_.get(), 0, {1, 2, 3}).ok());
  rows_ = Rows(client_.get());
  GrowOptions options = To(9000);
  options.shards = stored.addresses();
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  stored.Restart(0);
  stored.Restart(1);
  const std::unique_ptr<HeadClient> grown = Connect(stored, 9000);
  EXPECT_EQ(Rows(grown.get()), rows_);
  const auto minted = grown->MintIncarnation();
  ASSERT_TRUE(minted.ok()) << minted.status();
  const auto step = grown->Open(*minted);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(*step, 1);
  EXPECT_TRUE(Step(grown.get(), 1, {8999}).ok());
}

TEST_F(GrowHeadTest, NothingChangesWhereAnythingIsWrong) {
  Train();
  WriteText(dir_.File("short.tsv"), "a\nb\n");
  WriteText(dir_.File("new"), "c\nd\n");
  WriteText(dir_.File("twice"), "c\nd\nc\n");
  WriteText(dir_.File("there"), "x\nb\n");
  WriteEmbeddings(dir_.File("two.safetensors"), 2, std::vector<float>(2 * kDim, 1.0f));
  std::vector<float> zero(2 * kDim, 1.0f);
  std::fill(zero.begin() + kDim, zero.end(), 0.0f);
  WriteEmbeddings(dir_.File("zero.safetensors"), 2, zero);
  const auto named = [&](const std::string& names) {
    GrowOptions options = To(0);
    options.identities_path = dir_.File(names);
    options.catalogue_path = dir_.File("short.tsv");
    return options;
  };
  const auto embedded = [&](int64_t classes, const std::string& file) {
    GrowOptions options = To(classes);
    options.embeddings_path = dir_.File(file);
    return options;
  };
  std::string long_names;
  for (int64_t i = 0; i <= kClasses; ++i) absl::StrAppend(&long_names, "id-", i, "\n");
  WriteText(dir_.File("long.tsv"), long_names);
  GrowOptions long_catalogue = named("new");
  long_catalogue.catalogue_path = dir_.File("long.tsv");
  GrowOptions one_shard = To(6000);
  one_shard.shards.pop_back();
  GrowOptions other_head = To(6000);
  other_head.head = "fases";
  struct Case {
    GrowOptions options;
    std::string message;
  };
  const std::vector<Case> cases = {
      {To(0), "either --identities FILE with --catalogue FILE, or --classes N"},
      {To(4999), "has 5000 classes; it cannot grow to 4999"},
      {long_catalogue, "long.tsv: 5001 names; head faces has 5000 classes: it is another head's catalogue"},
      {named("twice"), "twice:3: identity name 'c' is already that of class 2"},
      {named("there"), "there:2: identity name 'b' is already that of class 1"},
      {embedded(5003, "two.safetensors"), "2 rows of 6 numbers; there are 3 new classes of 6"},
      {embedded(5002, "zero.safetensors"), "zero.safetensors: row 1: its norm is 0"},
      {one_shard, "head faces has 2 shards; --shards names 1 of them"},
      {other_head, "there is no head 'fases'; there is faces"},
  };
  for (const Case& wrong : cases) {
    SCOPED_TRACE(wrong.message);
    const absl::Status status = Run(wrong.options);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
  }
  // A shard that stands elsewhere, and a check that would pass: neither changes anything.
  EXPECT_EQ(GrowOne(shards_, 1, 6000, 1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(GrowOne(shards_, 1, 6000, 2, /*check_only=*/true).ok());
  EXPECT_EQ(GrowOne(shards_, 1, 4000, 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GrowOne(shards_, 1, (int64_t{1} << 40) + 1, 2).code(), absl::StatusCode::kInvalidArgument);
  // The run goes on as if nobody had asked.
  EXPECT_TRUE(Step(client_.get(), 2, {1, 2}).ok());
}

}  // namespace
}  // namespace myriad
