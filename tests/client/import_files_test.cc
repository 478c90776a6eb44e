#include "client/import_files.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/row_file_writer.h"
#include "client/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/client/torch_bytes.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace myriad::testing;  // NOLINT: pieces of files.

constexpr int kDim = 3;

HeadSpec Spec(int64_t classes) {
  HeadSpec spec;
  spec.name = "faces";
  spec.class_count = classes;
  spec.embedding_dim = kDim;
  return spec;
}

std::vector<float> RowsFrom(float first, int rows) {
  std::vector<float> values(rows * kDim);
  std::iota(values.begin(), values.end(), first);
  return values;
}

void WriteRows(const std::string& path, const std::vector<int64_t>& ids, const std::vector<float>& weights, bool slots = false) {
  const auto writer = RowFileWriter::Create({path, Spec(10), 7, static_cast<int64_t>(ids.size()), slots});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Append(ids, weights.data(), weights.data()).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

void WriteTensors(const std::string& path, const std::vector<std::pair<TensorInfo, std::string>>& tensors) {
  std::vector<TensorInfo> infos;
  for (const auto& [info, bytes] : tensors) infos.push_back(info);
  const auto writer = SafetensorsWriter::Create(path, infos, {});
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (size_t i = 0; i < tensors.size(); ++i) ASSERT_TRUE((*writer)->Append(i, tensors[i].second).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

// Class id -> weights, then slots.
std::map<int64_t, std::vector<float>> ReadAll(const ImportFiles& files, int64_t rows_per_batch) {
  std::map<int64_t, std::vector<float>> rows;
  const absl::Status status = files.Check(rows_per_batch, [&](const ImportFiles::Batch& batch) {
    const size_t slots = batch.slots.size() / batch.class_ids.size();
    for (size_t i = 0; i < batch.class_ids.size(); ++i) {
      std::vector<float>& row = rows[batch.class_ids[i]];
      row.assign(batch.weights.begin() + i * kDim, batch.weights.begin() + (i + 1) * kDim);
      row.insert(row.end(), batch.slots.begin() + i * slots, batch.slots.begin() + (i + 1) * slots);
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

absl::Status Check(const std::vector<std::string>& paths, int64_t classes, bool slots = false) {
  const auto files = ImportFiles::Open(paths, Spec(classes), slots);
  if (!files.ok()) return files.status();
  return files->Check(2, [](const ImportFiles::Batch&) { return absl::OkStatus(); });
}

TEST(ImportFilesTest, RowsOfSeveralFilesComeWithTheirIdsAndSlots) {
  TempDir dir;
  WriteRows(dir.File("rows-00000-of-00002.safetensors"), {5, 1, 8}, RowsFrom(10, 3), true);
  WriteRows(dir.File("rows-00001-of-00002.safetensors"), {2}, RowsFrom(50, 1), true);
  for (int64_t rows_per_batch : {1, 2, 100}) {
    const auto files = ImportFiles::Open({dir.path()}, Spec(9), true);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ(files->row_count(), 4);
    const auto rows = ReadAll(*files, rows_per_batch);
    ASSERT_EQ(rows.size(), 4u);
    EXPECT_THAT(rows.at(5), ElementsAre(10, 11, 12, 10, 11, 12));
    EXPECT_THAT(rows.at(8), ElementsAre(16, 17, 18, 16, 17, 18));
    EXPECT_THAT(rows.at(2), ElementsAre(50, 51, 52, 50, 51, 52));
  }
}

TEST(ImportFilesTest, WithoutIdsTheRowsNumberIsTheClassAndHalvesAreWidened) {
  TempDir dir;
  // 1, -2, 0.5 and 65504, 2^-24, 0 in binary16.
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x3800, 0x7bff, 0x0001, 0x0000};
  WriteTensors(dir.File("x.safetensors"), {{{"weight", TensorType::kF16, {2, kDim}}, RawAll(halves)}});
  const auto files = ImportFiles::Open({dir.File("x.safetensors")}, Spec(2), false);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto rows = ReadAll(*files, 10);
  EXPECT_THAT(rows.at(0), ElementsAre(1.0f, -2.0f, 0.5f));
  EXPECT_THAT(rows.at(1), ElementsAre(65504.0f, std::ldexp(1.0f, -24), 0.0f));
}

// 8 classes of 3 ranks: 3, 3 and 2. Files of eleven ranks would sort by name as 0, 1, 10, 2.
TEST(ImportFilesTest, RanksHaveTheClassesThatPartialFcGivesThem) {
  TempDir dir;
  WriteText(dir.File("rank_0_softmax_weight.pt"), TorchMatrixBytes(RowsFrom(0, 3), kDim));
  WriteText(dir.File("rank_1_softmax_weight.pt"), TorchMatrixBytes(RowsFrom(9, 3), kDim));
  WriteText(dir.File("rank_2_softmax_weight.pt"), TorchMatrixBytes(RowsFrom(18, 2), kDim));
  for (int r = 0; r < 3; ++r) {
    WriteText(dir.File(absl::StrCat("rank_", r, "_softmax_weight_mom.pt")), TorchMatrixBytes(RowsFrom(100 + 9 * r, r < 2 ? 3 : 2), kDim));
  }
  const auto files = ImportFiles::Open({dir.path()}, Spec(8), true);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->count(), 3);
  const auto rows = ReadAll(*files, 2);
  ASSERT_EQ(rows.size(), 8u);
  for (int64_t id = 0; id < 8; ++id) {
    EXPECT_THAT(rows.at(id), ElementsAre(3 * id, 3 * id + 1, 3 * id + 2, 100 + 3 * id, 101 + 3 * id, 102 + 3 * id));
  }

  TempDir eleven;
  for (int r = 0; r < 11; ++r) {
    const std::string weight = Dict({{"state_dict_softmax_fc", Dict({{"weight", Tensor("FloatStorage", "7", 3, 0, {1, 3}, {3, 1})}})}});
    WriteText(eleven.File(absl::StrCat("checkpoint_gpu_", r, ".pt")), TorchBytes(weight, {{"7", RawAll(RowsFrom(r, 1))}}));
  }
  const auto newer = ImportFiles::Open({eleven.path()}, Spec(11), false);
  ASSERT_TRUE(newer.ok()) << newer.status();
  for (const auto& [id, row] : ReadAll(*newer, 4)) EXPECT_EQ(row[0], id);
}

std::string Checkpoint(const std::vector<float>& weights, const std::string& more, const std::vector<float>& momentum = {}) {
  const int32_t rows = static_cast<int32_t>(weights.size()) / kDim;
  const std::string fc = Dict({{"weight", Tensor("FloatStorage", "7", rows * kDim, 0, {rows, kDim}, {kDim, 1})}});
  return TorchBytes("}(" + Text("state_dict_softmax_fc") + fc + more + "u", {{"7", RawAll(weights)}, {"8", RawAll(momentum)}});
}

// torch.optim.SGD.state_dict(): {"state": {parameter: {"momentum_buffer": tensor}}}; `shapes` by parameter, all of storage 8.
std::string OptimizerState(const std::vector<std::vector<int32_t>>& shapes, int32_t numbers) {
  std::string state = "}(";
  for (size_t i = 0; i < shapes.size(); ++i) {
    std::vector<int32_t> stride(shapes[i].size(), 1);
    for (size_t d = stride.size() - 1; d-- > 0;) stride[d] = stride[d + 1] * shapes[i][d + 1];
    state += Int(static_cast<int32_t>(i)) + Dict({{"momentum_buffer", Tensor("FloatStorage", "8", numbers, 0, shapes[i], stride)}});
  }
  return Text("state_optimizer") + Dict({{"state", state + "u"}});
}

// What the trainers leave in one folder: checkpoints of all ranks, and the network, which is no rank's.
TEST(ImportFilesTest, WhatLiesBesideTheCheckpointsOfRanksIsLeftAlone) {
  TempDir newer, older;
  const std::string network =
      TorchBytes(Dict({{"fc.weight", Tensor("FloatStorage", "0", 4, 0, {2, 2}, {2, 1})}}), {{"0", std::string(16, 'n')}});
  WriteText(newer.File("model.pt"), network);
  WriteText(older.File("backbone_0.pt"), network);
  for (int r = 0; r < 2; ++r) {
    WriteText(newer.File(absl::StrCat("checkpoint_gpu_", r, ".pt")), Checkpoint(RowsFrom(6 * r, 2), ""));
    WriteText(older.File(absl::StrCat("rank_", r, "_softmax_weight.pt")), TorchMatrixBytes(RowsFrom(6 * r, 2), kDim));
    WriteText(older.File(absl::StrCat("rank_", r, "_softmax_weight_mom.pt")), TorchMatrixBytes(RowsFrom(0, 2), kDim));
  }
  for (const TempDir* dir : {&newer, &older}) {
    const auto files = ImportFiles::Open({dir->path()}, Spec(4), false);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ(files->count(), 2);
    for (const auto& [id, row] : ReadAll(*files, 3)) EXPECT_EQ(row[0], 3 * id);
  }
}

TEST(ImportFilesTest, AnExportWithoutAllOfItsFilesIsRefused) {
  TempDir dir;
  WriteRows(dir.File("rows-00000-of-00002.safetensors"), {5, 1, 8}, RowsFrom(10, 3));
  const auto files = ImportFiles::Open({dir.path()}, Spec(9), false);
  EXPECT_EQ(files.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(files.status().message()), HasSubstr("rows-00001-of-00002.safetensors: missing of a set of 2"));
}

// The newer checkpoints have the momentum of W among the optimizer's states, as that of its last parameter.
TEST(ImportFilesTest, TheOptimizersLastMomentumIsThatOfTheWeights) {
  TempDir dir;
  const std::vector<float> momentum = RowsFrom(100, 2);
  WriteText(dir.File("w.pt"), Checkpoint(RowsFrom(0, 2), OptimizerState({{3, 2}, {6}, {2, kDim}}, 6), momentum));
  const auto files = ImportFiles::Open({dir.File("w.pt")}, Spec(2), true);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto rows = ReadAll(*files, 10);
  EXPECT_THAT(rows.at(0), ElementsAre(0, 1, 2, 100, 101, 102));
  EXPECT_THAT(rows.at(1), ElementsAre(3, 4, 5, 103, 104, 105));
  // Where it cannot be told, it is not guessed: another tensor of that shape, or none of it last.
  for (const std::vector<std::vector<int32_t>>& shapes : {std::vector<std::vector<int32_t>>{{2, kDim}, {2, kDim}}, {{2, kDim}, {6}}, {}}) {
    WriteText(dir.File("w.pt"), Checkpoint(RowsFrom(0, 2), OptimizerState(shapes, 6), momentum));
    const auto refused = ImportFiles::Open({dir.File("w.pt")}, Spec(2), true);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("w.pt: no momentum of its weights in it")) << refused.status();
    EXPECT_TRUE(ImportFiles::Open({dir.File("w.pt")}, Spec(2), false).ok());
  }
}

TEST(ImportFilesTest, SlotsOfAnotherOptimizerAreRefused) {
  TempDir dir;
  WriteRows(dir.File("sgd.safetensors"), {0, 1}, RowsFrom(0, 2), true);
  WriteText(dir.File("w.pt"), Checkpoint(RowsFrom(0, 2), OptimizerState({{2, kDim}}, 6), RowsFrom(0, 2)));
  HeadSpec adagrad = Spec(2);
  adagrad.slots = OptimizerKind::kAdagrad;  // As many numbers.
  for (const char* name : {"sgd.safetensors", "w.pt"}) {
    const auto refused = ImportFiles::Open({dir.File(name)}, adagrad, true);
    EXPECT_THAT(std::string(refused.status().message()),
                HasSubstr(absl::StrCat(name, ": slots of sgd; the rows of head faces keep those of adagrad")));
    EXPECT_TRUE(ImportFiles::Open({dir.File(name)}, adagrad, false).ok());
  }
  // A file that does not say whose they are is believed, number by number.
  std::vector<float> sums = RowsFrom(-1, 2);
  WriteTensors(dir.File("x.safetensors"),
               {{{"weights", TensorType::kF32, {2, kDim}}, RawAll(sums)}, {{"slots", TensorType::kF32, {2, kDim}}, RawAll(sums)}});
  const auto believed = ImportFiles::Open({dir.File("x.safetensors")}, adagrad, true);
  ASSERT_TRUE(believed.ok()) << believed.status();
  const absl::Status checked = believed->Check(10, [](const ImportFiles::Batch&) { return absl::OkStatus(); });
  EXPECT_THAT(std::string(checked.message()), HasSubstr("x.safetensors: row 0, class 0: slot number 0 is -1; what adagrad sums up"));
}

TEST(ImportFilesTest, WhatIsWrongIsNamedWithItsFileAndRow) {
  TempDir dir;
  const auto path = [&](const std::string& name) { return dir.File(name); };
  std::vector<float> bad = RowsFrom(0, 3);
  bad[7] = NAN;
  WriteRows(path("nan.safetensors"), {0, 1, 2}, bad);
  WriteRows(path("twice.safetensors"), {0, 1, 0}, RowsFrom(0, 3));
  WriteRows(path("range.safetensors"), {0, 9, 2}, RowsFrom(0, 3));
  WriteRows(path("negative.safetensors"), {0, -1, 2}, RowsFrom(0, 3));
  WriteRows(path("good.safetensors"), {3, 4}, RowsFrom(0, 2));
  WriteRows(path("again.safetensors"), {4, 5}, RowsFrom(0, 2));
  WriteTensors(path("a.safetensors"), {{{"weights", TensorType::kF32, {1, kDim}}, RawAll(RowsFrom(0, 1))}});
  WriteTensors(path("b.safetensors"), {{{"weights", TensorType::kF32, {1, kDim}}, RawAll(RowsFrom(0, 1))}});
  WriteTensors(path("wide.safetensors"), {{{"weights", TensorType::kF32, {1, 4}}, std::string(16, 0)}});
  WriteTensors(path("double.safetensors"), {{{"weights", TensorType::kF64, {1, kDim}}, std::string(24, 0)}});
  WriteTensors(path("other.safetensors"), {{{"conv1", TensorType::kF32, {1}}, std::string(4, 0)}});
  WriteTensors(path("ids.safetensors"),
               {{{"class_ids", TensorType::kI32, {1}}, std::string(4, 0)}, {{"weights", TensorType::kF32, {1, kDim}}, std::string(12, 0)}});
  WriteText(path("rank_0_w.pt"), TorchMatrixBytes(RowsFrom(0, 4), kDim));
  WriteText(path("rank_2_w.pt"), TorchMatrixBytes(RowsFrom(0, 4), kDim));
  WriteText(path("rank_1_w.pt"), TorchMatrixBytes(RowsFrom(0, 3), kDim));
  WriteText(path("evil.pt"), TorchBytes(Name("os", "system") + Tuple({Text("true")}) + "R", {}));
  std::filesystem::create_directory(path("empty"));
  struct Case {
    std::vector<std::string> files;
    std::string message;
    bool slots = false;
  };
  const std::vector<Case> cases = {
      {{"nan.safetensors"}, "nan.safetensors: row 2, class 2: number 1 is not finite"},
      {{"twice.safetensors"}, "twice.safetensors: row 2, class 0: another row"},
      {{"good.safetensors", "again.safetensors"}, "again.safetensors: row 0, class 4: another row"},
      {{"range.safetensors"}, "range.safetensors: row 1, class 9: outside [0, 8)"},
      {{"negative.safetensors"}, "row 1, class -1: outside"},
      {{"a.safetensors", "b.safetensors"}, "b.safetensors: has no class_ids, nor has"},
      {{"wide.safetensors"}, "rows of 4 numbers; head faces has 3"},
      {{"double.safetensors"}, "weights is F64 [1, 3]; it must be F32, BF16 or F16"},
      {{"other.safetensors"}, "no tensor 'weights'; there are conv1"},
      {{"ids.safetensors"}, "class_ids is I32 [1]"},
      {{"good.safetensors"}, "has no slots to import", true},
      {{"good.safetensors", "rank_0_w.pt"}, "cannot be imported together"},
      {{"rank_0_w.pt", "rank_2_w.pt"}, "rank_2_w.pt: the last number in its name is not rank 1"},
      {{"rank_0_w.pt", "rank_1_w.pt"}, "rank_1_w.pt: 3 rows; rank 1 of 2 has 4 of the 8 classes"},
      {{"rank_0_w.pt"}, "rank_0_w.pt: 4 rows; rank 0 of 1 has 8"},
      {{"evil.pt"}, "no tensor 'weight'"},
      {{"empty"}, "neither rows-i-of-n.safetensors nor *.pt"},
      {{"nowhere.safetensors"}, "nowhere.safetensors: No such file"},
      {{}, "no file"},
  };
  for (const Case& wrong : cases) {
    SCOPED_TRACE(wrong.message);
    std::vector<std::string> paths;
    for (const std::string& name : wrong.files) paths.push_back(path(name));
    const absl::Status status = Check(paths, 8, wrong.slots);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
  }
}

}  // namespace
}  // namespace myriad
