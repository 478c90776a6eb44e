// Rows of a head to files and back, over real shards.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "client/export_rows.h"
#include "client/head_client.h"
#include "client/head_rows.h"
#include "client/import_rows.h"
#include "client/row_file.h"
#include "client/row_file_writer.h"
#include "client/run_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "head/stored_numbers.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kDim = 5;
constexpr int64_t kClasses = 3000;
constexpr char kSpecText[] = "name: 'faces' class_count: 3000 embedding_dim: 5 seed: 9";

using RowMap = std::map<int64_t, std::vector<float>>;  // Class id -> weights, then slots if there are any.

// `count` rows of random numbers, ids from all over the classes.
RowMap RandomRows(int count, uint32_t seed, bool slots) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  RowMap rows;
  while (static_cast<int>(rows.size()) < count) {
    std::vector<float>& row = rows[rng() % kClasses];
    row.resize(slots ? 2 * kDim : kDim);
    for (float& value : row) value = normal(rng);
  }
  return rows;
}

void WriteFile(const std::string& path, const RowMap& rows, bool slots) {
  HeadSpec head;
  head.name = "faces";
  head.embedding_dim = kDim;
  const auto writer = RowFileWriter::Create({path, head, 0, static_cast<int64_t>(rows.size()), slots});
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& [id, row] : rows) ASSERT_TRUE((*writer)->Append({id}, row.data(), row.data() + kDim).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

RowMap ReadFiles(const std::string& folder, bool slots) {
  RowMap rows;
  const auto paths = HeadRowsFiles(folder);
  EXPECT_TRUE(paths.ok()) << paths.status();
  for (const std::string& path : *paths) {
    const auto file = OpenRowFile(path, slots);
    EXPECT_TRUE(file.ok()) << file.status();
    for (int64_t i = 0; i < file->weights.rows(); ++i) {
      std::vector<float> row(slots ? 2 * kDim : kDim);
      file->weights.Copy(i, 1, row.data());
      if (slots) file->slots->Copy(i, 1, row.data() + kDim);
      EXPECT_TRUE(rows.emplace(file->ClassIdAt(i), row).second) << "twice: " << file->ClassIdAt(i);
    }
  }
  return rows;
}

// Weights rounded to `dtype`, slots as they are.
RowMap Rounded(RowMap rows, DataType dtype) {
  for (auto& [id, row] : rows) {
    std::vector<std::byte> stored(kDim * BytesOf(dtype));
    StoreNearest(dtype, row.data(), kDim, stored.data());
    Widen(dtype, stored.data(), kDim, row.data());
  }
  return rows;
}

class AdminRowsTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteText(dir_.File("spec"), kSpecText); }

  ImportOptions Import(const ShardCluster& shards, const std::string& from) {
    ImportOptions options;
    options.shards = shards.addresses();
    options.spec_path = dir_.File("spec");
    options.from = {dir_.File(from)};
    return options;
  }
  ExportOptions Export(const ShardCluster& shards, const std::string& out) {
    ExportOptions options;
    options.shards = shards.addresses();
    options.out_dir = dir_.File(out);
    return options;
  }
  absl::Status Run(const ImportOptions& options) {
    out_.str("");
    return ImportRows(options, out_);
  }
  absl::Status Run(const ExportOptions& options) {
    out_.str("");
    return ExportRows(options, out_);
  }

  TempDir dir_;
  std::ostringstream out_;
};

TEST_F(AdminRowsTest, RowsComeBackBitForBitFromAnyNumberOfShards) {
  const RowMap rows = RandomRows(700, 1, /*slots=*/true);
  WriteFile(dir_.File("in.safetensors"), rows, true);
  ShardCluster two(2), three(3);
  ImportOptions in = Import(two, "in.safetensors");
  in.slots = true;
  ASSERT_TRUE(Run(in).ok()) << Run(in);
  EXPECT_EQ(out_.str(), "imported 700 rows with slots from 1 files into head faces; 700 read back and equal\n");

  ExportOptions options = Export(two, "out");
  options.slots = true;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_THAT(out_.str(), StartsWith(absl::StrCat("exported 700 rows of head faces at step 0 to ", dir_.File("out"),
                                                  ": 2 files, 33600 bytes, weights F32 with slots; read back and equal, checksum ")));
  EXPECT_EQ(ReadFiles(dir_.File("out"), true), rows);

  // What was exported goes in again: its folder, its own spec, another number of shards given in another order than they are read.
  ImportOptions again = Import(three, "out");
  again.slots = true;
  again.spec_path = dir_.File("out") + "/head-spec.textproto";
  ASSERT_TRUE(Run(again).ok());
  ExportOptions last = Export(three, "last");
  last.slots = true;
  std::swap(last.shards[0], last.shards[2]);
  ASSERT_TRUE(Run(last).ok());
  EXPECT_EQ(ReadFiles(dir_.File("last"), true), rows);
}

TEST_F(AdminRowsTest, NarrowerFilesHoldTheNearestNumbers) {
  const RowMap rows = RandomRows(100, 2, /*slots=*/false);
  WriteFile(dir_.File("in.safetensors"), rows, false);
  ShardCluster shards(2);
  ASSERT_TRUE(Run(Import(shards, "in.safetensors")).ok());
  for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    SCOPED_TRACE(TensorTypeName(TensorTypeOf(dtype)));
    ExportOptions options = Export(shards, absl::StrCat("out", static_cast<int>(dtype)));
    options.dtype = dtype;
    ASSERT_TRUE(Run(options).ok());
    EXPECT_THAT(out_.str(), HasSubstr(absl::StrCat("weights ", TensorTypeName(TensorTypeOf(dtype)), ";")));
    EXPECT_EQ(ReadFiles(options.out_dir, false), Rounded(rows, dtype));
    // And such files go in, widened.
    ShardCluster other(1);
    ImportOptions in = Import(other, absl::StrCat("out", static_cast<int>(dtype)));
    ASSERT_TRUE(Run(in).ok());
  }
}

TEST_F(AdminRowsTest, ImportReplacesItsRowsAndLeavesTheOthers) {
  WriteFile(dir_.File("a.safetensors"), RandomRows(50, 3, true), true);
  ShardCluster shards(2);
  ImportOptions with_slots = Import(shards, "a.safetensors");
  with_slots.slots = true;
  ASSERT_TRUE(Run(with_slots).ok());
  RowMap expected = RandomRows(50, 3, true);
  const RowMap more = RandomRows(60, 4, false);
  WriteFile(dir_.File("b.safetensors"), more, false);
  ImportOptions sample = Import(shards, "b.safetensors");
  sample.verify = ImportOptions::Verify::kSample;
  ASSERT_TRUE(Run(sample).ok());
  for (const auto& [id, row] : more) {
    expected[id] = row;
    expected[id].resize(2 * kDim);  // Slots start from zero.
  }
  ExportOptions options = Export(shards, "out");
  options.slots = true;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(ReadFiles(options.out_dir, true), expected);
}

TEST_F(AdminRowsTest, NothingIsWrittenWhereAnythingIsWrong) {
  RowMap rows = RandomRows(300, 5, false);
  rows.rbegin()->second[2] = INFINITY;
  WriteFile(dir_.File("in.safetensors"), rows, false);
  ShardCluster shards(2);
  const absl::Status status = Run(Import(shards, "in.safetensors"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("row 299, class ", rows.rbegin()->first, ": number 2 is not finite")));
  EXPECT_FALSE(Run(Import(shards, "nowhere.safetensors")).ok());
  EXPECT_THAT(std::string(Run(Export(shards, "out")).message()), HasSubstr("these shards have no head yet")) << "not even the head is made";
}

TEST_F(AdminRowsTest, WhatDoesNotFitTheShardsIsRefused) {
  WriteFile(dir_.File("in.safetensors"), RandomRows(3, 6, false), false);
  ShardCluster shards(2);
  ASSERT_TRUE(Run(Import(shards, "in.safetensors")).ok());

  WriteText(dir_.File("other"), "name: 'faces' class_count: 3000 embedding_dim: 5 seed: 10");
  ImportOptions other = Import(shards, "in.safetensors");
  other.spec_path = dir_.File("other");
  EXPECT_THAT(std::string(Run(other).message()), HasSubstr("seed"));

  ImportOptions swapped = Import(shards, "in.safetensors");
  std::swap(swapped.shards[0], swapped.shards[1]);
  EXPECT_TRUE(Run(swapped).ok()) << "the head that is there says which shard each is";

  ImportOptions one = Import(shards, "in.safetensors");
  one.spec_path.clear();
  one.shards.pop_back();
  EXPECT_THAT(std::string(Run(one).message()), HasSubstr("head faces has 2 shards; --shards names 1 of them"));
  one.head = "fases";
  EXPECT_THAT(std::string(Run(one).message()), HasSubstr("there is no head 'fases'; there is faces"));

  ImportOptions torn = Import(shards, "in.safetensors");
  torn.while_training = true;
  torn.verify = ImportOptions::Verify::kSample;
  EXPECT_THAT(std::string(Run(torn).message()), HasSubstr("--while-training allows --verify none alone"));

  std::filesystem::create_directory(dir_.File("full"));
  WriteText(dir_.File("full/x"), "");
  EXPECT_THAT(std::string(Run(Export(shards, "full")).message()), HasSubstr("full: exists and is not an empty folder"));

  shards.Stop(1);
  ExportOptions lost = Export(shards, "lost");
  lost.timeout = absl::Seconds(2);
  EXPECT_EQ(Run(lost).code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(dir_.File("lost")));
}

TEST_F(AdminRowsTest, AHeadThatIsTrainedIsLeftAlone) {
  WriteFile(dir_.File("in.safetensors"), RandomRows(30, 7, false), false);
  ShardCluster shards(2);
  HeadClient::Options run;
  run.head.name = "faces";
  run.head.class_count = kClasses;
  run.head.embedding_dim = kDim;
  run.head.seed = 9;
  run.training.sampler.kind = SamplerOptions::Kind::kPositivesOnly;
  run.shard_addresses = shards.addresses();
  const auto client = HeadClient::Create(run);
  ASSERT_TRUE(client.ok()) << client.status();
  ImportOptions options = Import(shards, "in.safetensors");
  ASSERT_TRUE(Run(options).ok());
  ASSERT_TRUE((*client)->Open(1).ok());
  // A run that rests is no obstacle.
  ASSERT_TRUE(Run(options).ok());

  // A step comes while the files are checked.
  const std::vector<int64_t> labels = {1, 2};
  StepInput input;
  input.embeddings = at::ones({2, kDim});
  input.labels = labels;
  input.learning_rate = 0.1;
  options.should_stop = [&] {
    EXPECT_TRUE((*client)->Step(input).ok());
    ++input.step;
    return false;
  };
  const absl::Status status = Run(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("a run trains head faces, which is at step 1"));
  // Unless it is wanted.
  options.while_training = true;
  options.should_stop = nullptr;
  EXPECT_TRUE(Run(options).ok());
  EXPECT_EQ(out_.str(), "imported 30 rows from 1 files into head faces; not read back\n");
}

TEST_F(AdminRowsTest, StoppedItLeavesNoFolder) {
  WriteFile(dir_.File("in.safetensors"), RandomRows(30, 8, false), false);
  ShardCluster shards(1);
  ImportOptions in = Import(shards, "in.safetensors");
  in.should_stop = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(Run(in)));
  in.should_stop = nullptr;
  ASSERT_TRUE(Run(in).ok());
  ExportOptions options = Export(shards, "out");
  options.should_stop = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(Run(options)));
  EXPECT_EQ(dir_.CountEntries(), 2) << "the spec and the input";
}

TEST_F(AdminRowsTest, WhatAKilledExportLeftUnderTheSameNameIsNoPartOfTheNext) {
  WriteFile(dir_.File("in.safetensors"), RandomRows(30, 8, false), false);
  ShardCluster shards(1);
  ASSERT_TRUE(Run(Import(shards, "in.safetensors")).ok());
  const std::string left = dir_.File(absl::StrCat("out.tmp-", ::getpid()));
  std::filesystem::create_directory(left);
  WriteText(left + "/rows-00001-of-00002.safetensors", "half a file");
  ASSERT_TRUE(Run(Export(shards, "out")).ok());
  EXPECT_EQ(ReadFiles(dir_.File("out"), false).size(), 30u);
  EXPECT_FALSE(std::filesystem::exists(dir_.File("out/rows-00001-of-00002.safetensors")));
}

TEST_F(AdminRowsTest, ARunFolderIsExportedWithItsNamesAndWithoutServers) {
  const auto folder = RunFolder::Create(dir_.File("run"));
  ASSERT_TRUE(folder.ok());
  ASSERT_TRUE(folder->WriteConfig({}).ok());
  v1::HeadInfo info;
  info.mutable_head()->set_name("faces");
  info.mutable_head()->set_class_count(kClasses);
  info.mutable_head()->set_embedding_dim(kDim);
  info.set_committed_steps(34);
  info.set_row_count(40);
  info.set_shard_count(1);
  ASSERT_TRUE(folder->WriteHeadInfo(info).ok());
  WriteText(folder->identities_path("faces"), "alice\nbob\n");
  const RowMap rows = RandomRows(40, 9, true);
  WriteFile(HeadRowsPath(folder->head_folder("faces"), 0, 1), rows, true);
  ExportOptions options;
  options.run_dir = dir_.File("run");
  options.out_dir = dir_.File("out/deep/");
  options.slots = true;
  options.dtype = DataType::kBFloat16;
  ASSERT_TRUE(Run(options).ok()) << Run(options);
  EXPECT_THAT(out_.str(), StartsWith("exported 40 rows of head faces at step 34 to "));
  EXPECT_EQ(ReadFiles(dir_.File("out/deep"), true), Rounded(rows, DataType::kBFloat16));
  EXPECT_EQ(ReadText(dir_.File("out/deep/identities.tsv")), "alice\nbob\n");
}

}  // namespace
}  // namespace myriad
