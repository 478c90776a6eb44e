#include "worker/job_data.h"

#include <fstream>
#include <map>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"
#include "client/identity_catalogue.h"
#include "client/job_config.h"

namespace myriad {
namespace {

constexpr int kSide = 16;

// A data set of raw grey pictures: `names` with two images each, whose every pixel is `shade` + the identity's number.
std::string WriteDataset(const std::string& folder, const std::vector<std::string>& names, int shade) {
  const std::string path = testing::TempDir() + folder;
  EXPECT_TRUE(MakeFolders(path).ok());
  std::ofstream images(path + "/train.images", std::ios::binary), labels(path + "/train.labels", std::ios::binary);
  std::ofstream identities(path + "/train.identities.tsv"), json(path + "/dataset.json");
  for (int64_t i = 0; i < static_cast<int64_t>(names.size()) * 2; ++i) {
    const int64_t label = i / 2;
    images << std::string(kSide * kSide, static_cast<char>(shade + label));
    labels.write(reinterpret_cast<const char*>(&label), sizeof(label));
  }
  for (const std::string& name : names) identities << name << "\n";
  json << "{\"version\":1,\"image_size\":" << kSide
       << ",\"channels\":1,\"encoding\":\"raw\",\"splits\":{\"train\":{\"count\":" << names.size() * 2
       << ",\"images\":\"train.images\",\"labels\":\"train.labels\",\"identities\":\"train.identities.tsv\"}}}";
  return path;
}

config::v1::JobConfig Config(const std::string& text) {
  auto config = ParseJobConfig(text, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  const absl::Status status = FillDefaults(&*config);
  EXPECT_TRUE(status.ok()) << status;
  return *config;
}

// Of the heads of a first run.
std::vector<IdentityCatalogue> NoNames(const config::v1::JobConfig& config) { return std::vector<IdentityCatalogue>(config.heads_size()); }

TEST(JobDataTest, EqualNamesOfTwoDataSetsAreOneIdentityOfTheHead) {
  const std::string first = WriteDataset("first", {"ann", "bob"}, 10);
  const std::string second = WriteDataset("second", {"bob", "cid", "ann"}, 100);
  config::v1::JobConfig config =
      Config(absl::StrCat("heads { spec { name: 'people' } } datasets { path: '", first, "' } datasets { path: '", second,
                          "' } backbone { small_resnet {} } training { batch_size: 10 }"));
  auto data = OpenJobData(config, NoNames(config));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->facts.class_counts.at("people"), 3);
  EXPECT_EQ(data->facts.image_size, kSide);
  EXPECT_EQ(data->facts.channels, 1);
  EXPECT_EQ(data->class_ids[0], std::vector<int64_t>({0, 1}));
  EXPECT_EQ(data->class_ids[1], std::vector<int64_t>({1, 2, 0}));
  EXPECT_EQ(data->catalogues[0].NameOf(2), "cid");

  ASSERT_TRUE(ResolveWithData(data->facts, &config).ok());
  auto reader = MakeBatchReader(config, *data, 0, 1, 0);
  ASSERT_TRUE(reader.ok()) << reader.status();
  auto batch = (*reader)->Next();
  ASSERT_TRUE(batch.ok()) << batch.status();
  ASSERT_EQ(batch->labels.size(), 10u);
  // The pixel tells data set and label; the batch tells the head's class.
  const std::map<int, int64_t> class_of_pixel = {{10, 0}, {11, 1}, {100, 1}, {101, 2}, {102, 0}};
  for (int64_t i = 0; i < 10; ++i) {
    const float value = batch->images[i][0][0][0].item<float>();
    const int pixel = static_cast<int>((value * 0.5f + 0.5f) * 255.0f + 0.5f);
    EXPECT_EQ(batch->labels[i], class_of_pixel.at(pixel));
    EXPECT_EQ(batch->sources[i], pixel >= 100 ? 1 : 0);
  }
}

TEST(JobDataTest, HeadsHaveCataloguesOfTheirOwn) {
  const std::string first = WriteDataset("own1", {"ann", "bob"}, 10);
  const std::string second = WriteDataset("own2", {"bob", "cid", "dot"}, 100);
  const config::v1::JobConfig config =
      Config(absl::StrCat("heads { spec { name: 'a' } } heads { spec { name: 'b' } } datasets { path: '", first,
                          "' head: 'a' } datasets { path: '", second, "' head: 'b' } backbone { small_resnet {} }"));
  auto data = OpenJobData(config, NoNames(config));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->head_of_dataset, std::vector<int>({0, 1}));
  EXPECT_EQ(data->facts.class_counts.at("a"), 2);
  EXPECT_EQ(data->facts.class_counts.at("b"), 3);
  EXPECT_EQ(data->class_ids[1], std::vector<int64_t>({0, 1, 2}));
}

// A head was trained on ann and cid, then bob came, whose folder lies between theirs.
TEST(JobDataTest, KnownNamesKeepTheirIdsAndNewOnesComeBehindThem) {
  const std::string path = WriteDataset("grown", {"ann", "bob", "cid", "dot"}, 10);
  const config::v1::JobConfig config =
      Config(absl::StrCat("heads { spec { name: 'a' } } datasets { path: '", path, "' } backbone { small_resnet {} }"));
  std::vector<IdentityCatalogue> catalogues;
  catalogues.push_back(*IdentityCatalogue::Parse("ann\ncid\neve\n", "test"));
  auto data = OpenJobData(config, std::move(catalogues));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->class_ids[0], std::vector<int64_t>({0, 3, 1, 4}));
  EXPECT_EQ(data->catalogues[0].text(), "ann\ncid\neve\nbob\ndot\n");
  EXPECT_EQ(data->facts.class_counts.at("a"), 5);
}

TEST(JobDataTest, AMissingFolderIsNamed) {
  const config::v1::JobConfig config =
      Config("heads { spec { name: 'a' } } datasets { path: '/nonexistent/data' } backbone { small_resnet {} }");
  const absl::Status status = OpenJobData(config, NoNames(config)).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find("/nonexistent/data"), std::string::npos) << status;
}

}  // namespace
}  // namespace myriad
