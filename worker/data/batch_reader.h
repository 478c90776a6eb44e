#ifndef MYRIAD_WORKER_DATA_BATCH_READER_H_
#define MYRIAD_WORKER_DATA_BATCH_READER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "worker/data/augmentation.h"
#include "worker/data/dataset.h"

namespace myriad {

// One data set of the mix that a BatchReader draws from.
struct BatchSource {
  const Dataset* dataset = nullptr;  // Borrowed; outlives the reader.
  AugmentationOptions augmentation = {};
  // Label of the data set -> what Batch::labels tells (the head's class id). Empty: the label itself.
  std::vector<int64_t> class_ids = {};
  // An image that cannot be read is left out of its batch and counted; else it ends the run.
  bool skip_unreadable = false;
};

struct BatchReaderOptions {
  int64_t batch_size = 128;  // Images of a step over all ranks. >= world_size.
  int rank = 0;              // In [0, world_size).
  int world_size = 1;
  uint64_t seed = 0;
  bool shuffle = true;       // A new order in every epoch; else the order of the sources.
  int threads = 1;           // Reader threads. >= 1.
  int prefetch_batches = 4;  // Batches read ahead at most, those being read included. >= 1.
  int64_t first_step = 0;    // Step of the first Next(). A reader opened at t goes on exactly as one that has delivered t batches.
};

// This rank's slice of one global batch.
struct Batch {
  int64_t step = 0;                    // Counts batches over all epochs, from 0.
  int64_t epoch = 0;                   // step div steps_per_epoch.
  at::Tensor images;                   // n x channels x size x size, float32 in [-1, 1], on the CPU. n may be 0.
  std::vector<int64_t> labels;         // n class ids.
  std::vector<int32_t> sources;        // n indices into the sources.
  std::vector<int64_t> image_indices;  // n image numbers in their source.
  int64_t skipped = 0;                 // Images of the slice that could not be read and are missing (skip_unreadable).
};

// What is known of a batch before its images are read: the labels of this rank's slice, and the sources of their images.
struct ComingBatch {
  std::vector<int64_t> labels;   // n class ids.
  std::vector<int32_t> sources;  // n indices into the sources.
};

// Reads, decodes, augments and normalises batches ahead of the trainer with its own threads.
//
// Epoch e of all N images of all sources has one order, a permutation of (seed, e) that every rank computes alike. Step b of the epoch
// takes places [b*B, (b+1)*B), of which rank r of R takes [b*B + B*r/R, b*B + B*(r+1)/R): sizes differ by at most one. Augmentation is
// keyed by (seed, epoch, image). So what a step sees follows from the options alone, never from threads or time; with another world_size
// the global batches are the same. The last images of an epoch that do not fill a batch are left out.
//
// Next() is for one thread at a time; the destructor stops the threads (after the image at hand) and must not run beside Next().
class BatchReader {
 public:
  // Errors: INVALID_ARGUMENT naming field, value and range: options out of range, no source, sources of different size or channels,
  // class_ids of another length than the identities, fewer images than one batch.
  static absl::StatusOr<std::unique_ptr<BatchReader>> Create(std::vector<BatchSource> sources, const BatchReaderOptions& options);
  virtual ~BatchReader() = default;

  // The next batch, waiting for it if need be. Errors: that of the batch's first image that cannot be read, with its name. After an error
  // every call returns it again.
  virtual absl::StatusOr<Batch> Next() = 0;

  // The batches after the last Next(), the nearest first, without waiting for them: they follow from the options. Images that will turn out
  // to be unreadable are among them. Requires: count >= 0. For the thread of Next().
  virtual std::vector<ComingBatch> Coming(int count) const = 0;

  virtual int64_t steps_per_epoch() const = 0;
  // Images of a step over all ranks, those left out by skip_unreadable included.
  virtual int64_t batch_size() const = 0;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_BATCH_READER_H_
