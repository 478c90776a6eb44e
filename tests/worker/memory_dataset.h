#ifndef MYRIAD_TESTS_WORKER_MEMORY_DATASET_H_
#define MYRIAD_TESTS_WORKER_MEMORY_DATASET_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/data/dataset.h"

namespace myriad {

// Pictures of made-up identities: each is a pattern of its own, drawn from `seed`, and each sample has noise on it.
class MemoryDataset : public Dataset {
 public:
  MemoryDataset(int identities, int samples, int size, uint64_t seed, const std::string& prefix) : size_(size), samples_(samples) {
    std::mt19937_64 rng(seed);
    std::uniform_int_distribution<int> level(60, 195), noise(-50, 50);
    for (int i = 0; i < identities; ++i) {
      names_.push_back(absl::StrCat(prefix, i));
      std::vector<int> pattern(size * size);
      // Cells of 4 x 4 pixels.
      std::vector<int> cells(((size + 3) / 4) * ((size + 3) / 4));
      for (int& cell : cells) cell = level(rng);
      for (int y = 0; y < size; ++y) {
        for (int x = 0; x < size; ++x) pattern[y * size + x] = cells[(y / 4) * ((size + 3) / 4) + x / 4];
      }
      for (int s = 0; s < samples; ++s) {
        for (int value : pattern) pixels_.push_back(static_cast<uint8_t>(value + noise(rng)));
      }
    }
  }

  int64_t size() const override { return static_cast<int64_t>(names_.size()) * samples_; }
  int64_t label(int64_t i) const override { return i / samples_; }
  const std::vector<std::string>& identities() const override { return names_; }
  int image_size() const override { return size_; }
  int channels() const override { return 1; }
  std::string ImageName(int64_t i) const override { return absl::StrCat("image ", i); }
  absl::Status ReadImage(int64_t i, uint8_t* out) const override {
    if (broken.count(i) > 0) return absl::DataLossError(absl::StrCat("image ", i, ": broken"));
    std::memcpy(out, pixels_.data() + i * size_ * size_, size_ * size_);
    return absl::OkStatus();
  }

  std::set<int64_t> broken;  // Images that cannot be read.

 private:
  const int size_;
  const int samples_;
  std::vector<std::string> names_;
  std::vector<uint8_t> pixels_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_WORKER_MEMORY_DATASET_H_
