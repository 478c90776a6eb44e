#ifndef MYRIAD_WORKER_TRAINING_STEP_H_
#define MYRIAD_WORKER_TRAINING_STEP_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "client/head_client.h"
#include "worker/backbone/backbone.h"
#include "worker/collectives.h"
#include "worker/sgd.h"
#include "worker/trace.h"

namespace myriad {

// A head that the run trains.
struct StepHead {
  std::string name;
  HeadClient* client = nullptr;  // Open.
  double loss_weight = 1.0;
  int64_t first_step = 0;  // Steps that the head had committed when the run opened it.
};

// What a step works on. All pointers are borrowed.
struct StepParts {
  Backbone* backbone = nullptr;
  std::vector<at::Tensor> parameters;  // Of the backbone; those of `reducer` and `optimizer`.
  GradientReducer* reducer = nullptr;
  BackboneSgd* optimizer = nullptr;
  Collectives* collectives = nullptr;
  std::vector<StepHead> heads;
  Trace* trace = nullptr;  // May be null.
};

struct StepOptions {
  int accumulation = 1;  // A >= 1.
  bool bfloat16 = false;
  double clip_norm = std::numeric_limits<double>::infinity();
  at::Device device = at::kCPU;
};

// Which class of which head each image of a batch shows.
struct StepLabels {
  std::vector<int64_t> labels;  // n class ids of the image's head.
  std::vector<int32_t> heads;   // n indices into StepParts::heads.
};

// This rank's part of a step's batch.
struct StepBatch : StepLabels {
  at::Tensor images;               // n x channels x size x size float32, on any device. n may be 0.
  std::vector<StepLabels> coming;  // Of the steps that follow, the nearest first: hints that change no result.
};

// Figures of one head in a step, over all ranks.
struct HeadFigures {
  double loss = 0.0;  // Before loss_weight.
  int64_t sample_count = 0;
  int64_t target_count = 0;
  double target_cosine_sum = 0.0;
  int64_t row_count = 0;
  int64_t degenerate_count = 0;  // See StepResult.
  RowSources row_sources;        // Of all chunks.
};

struct StepFigures {
  double loss = 0.0;               // Sum over the heads of loss_weight * loss.
  std::vector<HeadFigures> heads;  // In the order of StepParts::heads.
  double gradient_norm = 0.0;      // Of the backbone's summed gradients, before clipping; 0 without clipping.
  double forward_seconds = 0.0;
  double wait_head_seconds = 0.0;  // For HeadClient::Step; what of it ran beside the next chunk's forward pass is not counted.
  double backward_seconds = 0.0;   // Reductions included.
  double optimizer_seconds = 0.0;
  int64_t wire_bytes = 0;
  bool stop_requested = false;  // Some rank asked for a stop: the same on all ranks.
};

// One step of this rank: embeddings of each chunk, the heads' loss and dX, backward through the backbone while finished gradient buckets
// are summed over the ranks, clipping, the optimizer. `step` counts from the start of the run; every rank calls with the same one.
//
// With several chunks the heads work on one while the backbone runs the next one forward: the activations of two are kept.
//
// A chunk of fewer than 2 images has no batch statistics: it runs with BatchNorm's running ones, and an empty one contributes zeros.
//
// Errors: those of HeadClient::Step, starting with the head's name (a lost shard as a lost peer), and of GradientReducer; INVALID_ARGUMENT
// for a gradient norm that is not finite. The backbone is unchanged after an error (but for BatchNorm's running statistics).
absl::StatusOr<StepFigures> TrainingStep(const StepParts& parts, const StepOptions& options, const StepBatch& batch, int64_t step,
                                         double learning_rate);

}  // namespace myriad

#endif  // MYRIAD_WORKER_TRAINING_STEP_H_
