#include "client/head_rows.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(HeadRowsTest, AFolderHasOneWholeSetOfFilesInOrder) {
  TempDir dir;
  EXPECT_EQ(HeadRowsFiles(dir.path()).status().code(), absl::StatusCode::kNotFound);
  const std::string second = HeadRowsPath(dir.path(), 1, 2);
  WriteText(second, "");
  WriteText(dir.File("rows.safetensors"), "");
  EXPECT_EQ(HeadRowsFiles(dir.path()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(HeadRowsFiles(dir.path()).status().message()), HasSubstr("rows-00000-of-00002.safetensors: missing"));
  const std::string first = HeadRowsPath(dir.path(), 0, 2);
  WriteText(first, "");
  EXPECT_THAT(*HeadRowsFiles(dir.path()), ElementsAre(first, second));
  WriteText(HeadRowsPath(dir.path(), 0, 1), "");
  EXPECT_EQ(HeadRowsFiles(dir.path()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(HeadRowsFiles(dir.path()).status().message()), HasSubstr("files of two sets"));
}

TEST(HeadRowsTest, MetadataTellWhatSlotsAre) {
  HeadSpec spec;
  spec.name = "faces";
  spec.slots = OptimizerKind::kAdagrad;
  spec.slot_dtype = DataType::kBFloat16;
  EXPECT_THAT(RowFileMetadata(spec, 5, /*slots=*/false), ElementsAre(Pair("committed_steps", "5"), Pair("head", "faces")));
  EXPECT_THAT(RowFileMetadata(spec, 5, /*slots=*/true), ElementsAre(Pair("committed_steps", "5"), Pair("head", "faces"),
                                                                    Pair("optimizer", "adagrad"), Pair("slot_dtype", "bfloat16")));
}

}  // namespace
}  // namespace myriad
