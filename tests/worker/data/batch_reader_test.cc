#include "worker/data/batch_reader.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/data/test_images.h"
#include "worker/data/image_tensor.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

BatchReaderOptions Options(int64_t batch_size) {
  BatchReaderOptions options;
  options.batch_size = batch_size;
  options.seed = 11;
  return options;
}

AugmentationOptions SomeAugmentation() {
  AugmentationOptions augmentation;
  augmentation.flip_probability = 0.5;
  augmentation.max_shift = 0.1;
  augmentation.max_brightness_change = 0.2;
  return augmentation;
}

std::unique_ptr<BatchReader> Open(std::vector<BatchSource> sources, const BatchReaderOptions& options) {
  auto reader = BatchReader::Create(std::move(sources), options);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

Batch NextBatch(BatchReader& reader) {
  auto batch = reader.Next();
  EXPECT_TRUE(batch.ok()) << batch.status();
  return *std::move(batch);
}

std::vector<float> Values(const Batch& batch) {
  const at::Tensor flat = batch.images.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

TEST(BatchReaderTest, ImagesAreNormalisedAndGoWithTheirLabels) {
  const FakeDataset dataset(10, 3, 5, 3);
  auto reader = Open({{&dataset}}, Options(4));
  const Batch batch = NextBatch(*reader);
  ASSERT_EQ(batch.images.sizes(), (std::vector<int64_t>{4, 3, 5, 5}));
  ASSERT_EQ(batch.labels.size(), 4u);
  const std::vector<float> values = Values(batch);
  for (int i = 0; i < 4; ++i) {
    const int64_t image = batch.image_indices[i];
    EXPECT_EQ(batch.labels[i], image % 3);
    const std::vector<uint8_t> bytes = ReadBytes(dataset, image);
    for (int c = 0; c < 3; ++c) {
      for (int p = 0; p < 25; ++p) ASSERT_NEAR(values[(i * 3 + c) * 25 + p], (bytes[p * 3 + c] / 255.0 - 0.5) / 0.5, 1e-6);
    }
  }
}

TEST(BatchReaderTest, AnEpochIsEachImageOnceOverAllRanksInANewOrder) {
  const FakeDataset dataset(60, 7, 2, 1);
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order;
    for (int64_t step = 0; step < 6; ++step) {
      for (int rank = 0; rank < 3; ++rank) {
        BatchReaderOptions options = Options(10);
        options.rank = rank;
        options.world_size = 3;
        options.first_step = epoch * 6 + step;
        const Batch batch = NextBatch(*Open({{&dataset}}, options));
        EXPECT_EQ(batch.step, options.first_step);
        EXPECT_EQ(batch.epoch, epoch);
        // 10 over 3 ranks: 3, 3, 4.
        EXPECT_EQ(batch.labels.size(), rank == 2 ? 4u : 3u);
        order.insert(order.end(), batch.image_indices.begin(), batch.image_indices.end());
      }
    }
    ASSERT_EQ(order.size(), 60u);
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 60u);
    epochs.push_back(order);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  // One rank alone sees the same global batches.
  auto single = Open({{&dataset}}, Options(10));
  for (const std::vector<int64_t>& order : epochs) {
    for (int64_t step = 0; step < 6; ++step) {
      EXPECT_EQ(NextBatch(*single).image_indices, std::vector<int64_t>(order.begin() + step * 10, order.begin() + (step + 1) * 10));
    }
  }
}

// Over the end of an epoch, from two sources one of which has class ids of its own, for each rank.
TEST(BatchReaderTest, ComingBatchesAreThoseThatCome) {
  const FakeDataset first(20, 5, 2, 1);
  const FakeDataset second(13, 2, 2, 1);
  BatchSource renamed{&second};
  renamed.class_ids = {70, 90};
  for (int rank = 0; rank < 3; ++rank) {
    BatchReaderOptions options = Options(8);
    options.rank = rank;
    options.world_size = 3;
    options.prefetch_batches = 1;
    auto reader = Open({{&first}, renamed}, options);
    std::vector<ComingBatch> told = reader->Coming(5);
    ASSERT_EQ(told.size(), 5u);
    for (int step = 0; step < 10; ++step) {
      const Batch batch = NextBatch(*reader);
      EXPECT_EQ(told[0].labels, batch.labels);
      EXPECT_EQ(told[0].sources, batch.sources);
      const std::vector<ComingBatch> again = reader->Coming(5);
      for (int i = 1; i < 5; ++i) EXPECT_EQ(told[i].labels, again[i - 1].labels);
      told = again;
    }
  }
  EXPECT_TRUE(Open({{&first}}, Options(8))->Coming(0).empty());
}

// Nobody knows beforehand which they are.
TEST(BatchReaderTest, ImagesThatCannotBeReadAreAmongComingOnes) {
  const FakeDataset dataset(16, 4, 2, 1, {3});
  BatchSource source{&dataset};
  source.skip_unreadable = true;
  auto reader = Open({source}, Options(16));
  EXPECT_EQ(reader->Coming(1)[0].labels.size(), 16u);
  EXPECT_EQ(NextBatch(*reader).labels.size(), 15u);
}

TEST(BatchReaderTest, ThreadsAndPrefetchChangeNothing) {
  const FakeDataset dataset(50, 7, 8, 1);
  std::vector<std::vector<float>> expected;
  for (const auto& [threads, prefetch] : std::map<int, int>{{1, 1}, {2, 3}, {5, 8}, {8, 2}}) {
    BatchReaderOptions options = Options(8);
    options.threads = threads;
    options.prefetch_batches = prefetch;
    auto reader = Open({{&dataset, SomeAugmentation()}}, options);
    EXPECT_EQ(reader->steps_per_epoch(), 6);
    for (int step = 0; step < 20; ++step) {
      const Batch batch = NextBatch(*reader);
      ASSERT_EQ(batch.step, step);
      if (threads == 1) expected.push_back(Values(batch));
      ASSERT_EQ(Values(batch), expected[step]) << "threads " << threads << ", step " << step;
    }
  }
}

TEST(BatchReaderTest, AReaderOpenedInTheMiddleGoesOnAlike) {
  const FakeDataset dataset(50, 7, 8, 1);
  auto whole = Open({{&dataset, SomeAugmentation()}}, Options(8));
  for (int step = 0; step < 9; ++step) NextBatch(*whole);
  BatchReaderOptions options = Options(8);
  options.first_step = 9;
  auto rest = Open({{&dataset, SomeAugmentation()}}, options);
  for (int step = 0; step < 9; ++step) EXPECT_EQ(Values(NextBatch(*rest)), Values(NextBatch(*whole)));
}

TEST(BatchReaderTest, AugmentationDiffersBetweenEpochsAndSeeds) {
  const FakeDataset dataset(8, 7, 8, 1);
  BatchReaderOptions options = Options(8);
  options.shuffle = false;
  AugmentationOptions augmentation;
  augmentation.max_brightness_change = 0.5;
  auto reader = Open({{&dataset, augmentation}}, options);
  const std::vector<float> first = Values(NextBatch(*reader));
  EXPECT_NE(first, Values(NextBatch(*reader)));
  options.seed = 12;
  EXPECT_NE(first, Values(NextBatch(*Open({{&dataset, augmentation}}, options))));
}

TEST(BatchReaderTest, SourcesAreMixedAndLabelsMapped) {
  const FakeDataset a(20, 4, 2, 1);
  const FakeDataset b(10, 2, 2, 1);
  auto reader = Open({{&a}, {&b, {}, {100, 101}}}, Options(10));
  std::map<std::pair<int, int64_t>, int> seen;
  std::set<int> sources_of_first_batch;
  for (int step = 0; step < 3; ++step) {
    const Batch batch = NextBatch(*reader);
    for (size_t i = 0; i < batch.labels.size(); ++i) {
      const int64_t image = batch.image_indices[i];
      EXPECT_EQ(batch.labels[i], batch.sources[i] == 0 ? image % 4 : 100 + image % 2);
      ++seen[{batch.sources[i], image}];
      if (step == 0) sources_of_first_batch.insert(batch.sources[i]);
    }
  }
  EXPECT_EQ(seen.size(), 30u);
  EXPECT_EQ(sources_of_first_batch.size(), 2u);
}

TEST(BatchReaderTest, AnUnreadableImageEndsTheRunAtItsStep) {
  const FakeDataset dataset(40, 4, 2, 1, {13});
  BatchReaderOptions options = Options(4);
  options.shuffle = false;
  options.threads = 3;
  auto reader = Open({{&dataset}}, options);
  for (int step = 0; step < 3; ++step) NextBatch(*reader);
  for (int call = 0; call < 2; ++call) {
    const absl::Status status = reader->Next().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(status.message(), "fake 13: broken");
  }
}

TEST(BatchReaderTest, UnreadableImagesAreLeftOutAndCountedWhenAllowed) {
  const FakeDataset dataset(12, 4, 2, 1, {4, 5, 9});
  BatchReaderOptions options = Options(4);
  options.shuffle = false;
  BatchSource source{&dataset};
  source.skip_unreadable = true;
  auto reader = Open({source}, options);
  const Batch first = NextBatch(*reader);
  EXPECT_EQ(first.labels.size(), 4u);
  EXPECT_EQ(first.skipped, 0);
  const Batch batch = NextBatch(*reader);
  EXPECT_EQ(batch.image_indices, (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(batch.images.size(0), 2);
  EXPECT_EQ(batch.skipped, 2);
  const std::vector<uint8_t> bytes = ReadBytes(dataset, 7);
  EXPECT_NEAR(Values(batch)[4], (bytes[0] / 255.0 - 0.5) / 0.5, 1e-6);
  EXPECT_EQ(NextBatch(*reader).skipped, 1);
}

TEST(BatchReaderTest, OptionsOutOfRangeAreNamed) {
  const FakeDataset dataset(10, 4, 2, 1);
  const FakeDataset other(10, 4, 3, 1);
  const auto error = [](std::vector<BatchSource> sources, const BatchReaderOptions& options) {
    const auto reader = BatchReader::Create(std::move(sources), options);
    EXPECT_FALSE(reader.ok());
    return std::string(reader.status().message());
  };
  EXPECT_THAT(error({}, Options(4)), HasSubstr("no data set"));
  EXPECT_THAT(error({{&dataset}}, Options(11)), HasSubstr("batch_size is 11; a number up to the number of images (10)"));
  EXPECT_THAT(error({{&dataset}}, Options(0)), HasSubstr("batch_size is 0"));
  EXPECT_THAT(error({{&dataset}, {&other}}, Options(4)), HasSubstr("images of 3 pixels"));
  EXPECT_THAT(error({{&dataset, {}, {1, 2}}}, Options(4)), HasSubstr("class_ids is 2; 4"));
  BatchReaderOptions options = Options(4);
  options.rank = 2;
  options.world_size = 2;
  EXPECT_THAT(error({{&dataset}}, options), HasSubstr("rank is 2; a number in [0, 2)"));
  options = Options(4);
  options.threads = 0;
  EXPECT_THAT(error({{&dataset}}, options), HasSubstr("reader_threads is 0"));
}

TEST(ReadImagesTest, GivesTheAskedImagesInOrder) {
  const FakeDataset dataset(10, 3, 4, 1, {9});
  for (const int threads : {1, 3}) {
    const std::vector<int64_t> asked = {7, 0, 7, 3};
    const auto images = ReadImages(dataset, asked, threads);
    ASSERT_TRUE(images.ok()) << images.status();
    ASSERT_EQ(images->sizes(), (std::vector<int64_t>{4, 1, 4, 4}));
    for (int i = 0; i < 4; ++i) {
      const std::vector<uint8_t> bytes = ReadBytes(dataset, asked[i]);
      for (int p = 0; p < 16; ++p) ASSERT_NEAR(images->data_ptr<float>()[i * 16 + p], (bytes[p] / 255.0 - 0.5) / 0.5, 1e-6);
    }
    EXPECT_EQ(ReadImages(dataset, {1, 9}, threads).status().message(), "fake 9: broken");
  }
}

}  // namespace
}  // namespace myriad
