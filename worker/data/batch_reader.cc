#include "worker/data/batch_reader.h"

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <ATen/ops/empty.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "head/keyed_permutation.h"
#include "worker/data/image_tensor.h"
#include "worker/data/random.h"

namespace myriad {
namespace {

class ThreadedBatchReader : public BatchReader {
 public:
  ThreadedBatchReader(std::vector<BatchSource> sources, const BatchReaderOptions& options)
      : sources_(std::move(sources)), options_(options), next_step_(options.first_step), next_ticket_(options.first_step) {
    for (const BatchSource& source : sources_) ends_.push_back((ends_.empty() ? 0 : ends_.back()) + source.dataset->size());
    steps_per_epoch_ = ends_.back() / options_.batch_size;
  }

  ~ThreadedBatchReader() override {
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Start() {
    for (int t = 0; t < options_.threads; ++t) threads_.emplace_back([this] { Run(); });
  }

  absl::StatusOr<Batch> Next() override {
    absl::MutexLock lock(&mu_);
    if (!error_.ok()) return error_;
    const auto is_ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ready_.count(next_step_) > 0; };
    mu_.Await(absl::Condition(&is_ready));
    auto node = ready_.extract(next_step_);
    if (!node.mapped().ok()) {
      error_ = node.mapped().status();
      return error_;
    }
    ++next_step_;
    return std::move(node.mapped());
  }

  std::vector<ComingBatch> Coming(int count) const override {
    int64_t step;
    {
      absl::MutexLock lock(&mu_);
      step = next_step_;
    }
    std::vector<ComingBatch> coming(count);
    for (ComingBatch& batch : coming) {
      for (const Place& place : PlacesOf(step++)) {
        batch.labels.push_back(LabelOf(place));
        batch.sources.push_back(place.source);
      }
    }
    return coming;
  }

  int64_t steps_per_epoch() const override { return steps_per_epoch_; }
  int64_t batch_size() const override { return options_.batch_size; }

 private:
  // One image of a batch.
  struct Place {
    int64_t number;  // Of all images of all sources.
    int32_t source;
    int64_t image;  // Its number in the source.
  };

  uint64_t EpochKey(int64_t epoch) const { return MixKey(MixKey(options_.seed, 0x65706F6368), epoch); }

  // The images of this rank's slice of a step's batch, in order.
  std::vector<Place> PlacesOf(int64_t step) const {
    const KeyedPermutation order(ends_.back(), EpochKey(step / steps_per_epoch_));
    const int64_t start = step % steps_per_epoch_ * options_.batch_size;
    const int64_t first = start + options_.batch_size * options_.rank / options_.world_size;
    const int64_t last = start + options_.batch_size * (options_.rank + 1) / options_.world_size;
    std::vector<Place> places;
    places.reserve(last - first);
    for (int64_t i = first; i < last; ++i) {
      const int64_t number = options_.shuffle ? order.At(i) : i;
      const int32_t source = static_cast<int32_t>(std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin());
      places.push_back({number, source, number - (source == 0 ? 0 : ends_[source - 1])});
    }
    return places;
  }

  int64_t LabelOf(const Place& place) const {
    const BatchSource& source = sources_[place.source];
    const int64_t label = source.dataset->label(place.image);
    return source.class_ids.empty() ? label : source.class_ids[label];
  }

  // One reader thread: takes the next batch that nobody reads, as long as it is not too far ahead of the trainer.
  void Run() {
    std::vector<uint8_t> stored(sources_[0].dataset->image_bytes());
    std::vector<uint8_t> changed(stored.size());
    while (true) {
      int64_t step = 0;
      {
        absl::MutexLock lock(&mu_);
        const auto may_go_on = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
          return stopping_ || next_ticket_ < next_step_ + options_.prefetch_batches;
        };
        mu_.Await(absl::Condition(&may_go_on));
        if (stopping_) return;
        step = next_ticket_++;
      }
      absl::StatusOr<Batch> batch = absl::InternalError("not read");
      try {
        batch = Read(step, &stored, &changed);
      } catch (const std::exception& e) {  // From LibTorch: no memory.
        batch = absl::ResourceExhaustedError(absl::StrCat("step ", step, ": no memory for a batch of images: ", e.what()));
      }
      absl::MutexLock lock(&mu_);
      ready_.emplace(step, std::move(batch));
    }
  }

  bool stopping() const {
    absl::MutexLock lock(&mu_);
    return stopping_;
  }

  absl::StatusOr<Batch> Read(int64_t step, std::vector<uint8_t>* stored, std::vector<uint8_t>* changed) const {
    Batch batch;
    batch.step = step;
    batch.epoch = step / steps_per_epoch_;
    const uint64_t epoch_key = EpochKey(batch.epoch);
    const std::vector<Place> places = PlacesOf(step);

    const int side = sources_[0].dataset->image_size();
    const int channels = sources_[0].dataset->channels();
    batch.images = at::empty({static_cast<int64_t>(places.size()), channels, side, side}, at::kFloat);
    const int64_t image_elements = sources_[0].dataset->image_bytes();
    for (const Place& place : places) {
      if (stopping()) break;
      const BatchSource& source = sources_[place.source];
      if (absl::Status status = source.dataset->ReadImage(place.image, stored->data()); !status.ok()) {
        if (!source.skip_unreadable) return status;
        ++batch.skipped;
        continue;
      }
      Augment(source.augmentation, MixKey(epoch_key, place.number), side, channels, stored->data(), changed->data());
      const int64_t to = static_cast<int64_t>(batch.labels.size()) * image_elements;
      NormalizeImage(changed->data(), side, channels, batch.images.data_ptr<float>() + to);
      batch.labels.push_back(LabelOf(place));
      batch.sources.push_back(place.source);
      batch.image_indices.push_back(place.image);
    }
    if (batch.skipped > 0) batch.images = batch.images.narrow(0, 0, batch.labels.size());
    return batch;
  }

  const std::vector<BatchSource> sources_;
  const BatchReaderOptions options_;
  std::vector<int64_t> ends_;  // Images of the sources up to and including each.
  int64_t steps_per_epoch_ = 0;

  mutable absl::Mutex mu_;
  int64_t next_step_ ABSL_GUARDED_BY(mu_);
  int64_t next_ticket_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, absl::StatusOr<Batch>> ready_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

absl::Status OutOfRange(const std::string& field, int64_t value, const std::string& range) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; ", range, " is needed"));
}

absl::Status ValidateOptions(const BatchReaderOptions& options) {
  if (options.world_size < 1) return OutOfRange("world_size", options.world_size, "a number >= 1");
  if (options.rank < 0 || options.rank >= options.world_size) {
    return OutOfRange("rank", options.rank, absl::StrCat("a number in [0, ", options.world_size, ")"));
  }
  if (options.batch_size < options.world_size) {
    return OutOfRange("batch_size", options.batch_size, absl::StrCat("a number >= the number of ranks (", options.world_size, ")"));
  }
  if (options.threads < 1) return OutOfRange("reader_threads", options.threads, "a number >= 1");
  if (options.prefetch_batches < 1) return OutOfRange("prefetch_batches", options.prefetch_batches, "a number >= 1");
  if (options.first_step < 0) return OutOfRange("first_step", options.first_step, "a number >= 0");
  return absl::OkStatus();
}

absl::Status ValidateSources(const std::vector<BatchSource>& sources, const BatchReaderOptions& options) {
  if (sources.empty()) return absl::InvalidArgumentError("no data set to read from");
  const Dataset& first = *sources[0].dataset;
  int64_t count = 0;
  for (const BatchSource& source : sources) {
    const Dataset& dataset = *source.dataset;
    count += dataset.size();
    if (absl::Status status = ValidateAugmentation(source.augmentation); !status.ok()) return status;
    if (dataset.image_size() != first.image_size() || dataset.channels() != first.channels()) {
      return absl::InvalidArgumentError(absl::StrCat("images of ", dataset.image_size(), " pixels and ", dataset.channels(),
                                                     " channels cannot be mixed with images of ", first.image_size(), " pixels and ",
                                                     first.channels(), " channels"));
    }
    if (!source.class_ids.empty() && source.class_ids.size() != dataset.identities().size()) {
      return OutOfRange("the number of class_ids", source.class_ids.size(),
                        absl::StrCat(dataset.identities().size(), " (one per identity)"));
    }
  }
  if (count < options.batch_size) {
    return OutOfRange("batch_size", options.batch_size, absl::StrCat("a number up to the number of images (", count, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchReader>> BatchReader::Create(std::vector<BatchSource> sources, const BatchReaderOptions& options) {
  if (absl::Status status = ValidateOptions(options); !status.ok()) return status;
  if (absl::Status status = ValidateSources(sources, options); !status.ok()) return status;
  auto reader = std::make_unique<ThreadedBatchReader>(std::move(sources), options);
  reader->Start();
  return reader;
}

}  // namespace myriad
