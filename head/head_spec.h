#ifndef MYRIAD_HEAD_HEAD_SPEC_H_
#define MYRIAD_HEAD_HEAD_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace myriad {

// How a stored number lies in memory, on disk and on the wire.
enum class DataType { kFloat32, kBFloat16, kFloat16 };

// How rows move; OptimizerOptions has the equations. A row keeps its optimizer's slots beside its D weights, in this order:
//   kSgd      the momentum v, D numbers in slot_dtype
//   kAdamW    the first moment, D numbers in slot_dtype; the second moment, D float32 (0.999 v rounds back to v in 16 bits);
//             the row's own count of updates, one float32
//   kAdagrad  the sum of squares, D float32
enum class OptimizerKind { kSgd, kAdamW, kAdagrad };

// Identity of a head's rows (design section 2). Two runs with equal specs may use the same rows.
struct HeadSpec {
  std::string name;         // 1 to 64 letters, digits, '-' or '_'.
  int64_t class_count = 0;  // N, in [1, 2^40].
  int embedding_dim = 0;    // D, in [1, 65536].
  DataType weight_dtype = DataType::kFloat32;
  DataType slot_dtype = DataType::kFloat32;  // Of the slots that may have 16 bits.
  uint64_t seed = 0;                         // Of virtual rows and of the placement in partitions.
  double initial_deviation = 0.01;           // Standard deviation of a virtual row's elements; > 0, finite.
  OptimizerKind slots = OptimizerKind::kSgd;
  int partition_count = 4096;  // P.

  friend bool operator==(const HeadSpec& a, const HeadSpec& b);
  friend bool operator!=(const HeadSpec& a, const HeadSpec& b) { return !(a == b); }
};

// A run of slot numbers of one type, in the order of the row.
struct SlotRange {
  int64_t count;
  DataType type;
};
// Of what the slots of a row consist, and how many numbers that is: D for SGD and Adagrad, 2 D + 1 for AdamW.
std::vector<SlotRange> SlotRanges(const HeadSpec& head);
int64_t SlotNumbers(const HeadSpec& head);

// The margin on the positive's cosine c and the scale from cosine to logit (design section 4).
struct MarginOptions {
  enum class Kind {
    kCosFace,                 // z = s (c - m) (arXiv:1801.09414).
    kArcFace,                 // z = s cos(theta + m) (arXiv:1801.07698), linear past pi - m.
    kArcFaceStraightThrough,  // z = s cos(theta + m) everywhere, dz/dc = s.
  };
  Kind kind = Kind::kCosFace;
  double margin = 0.35;  // m; radians for ArcFace, in [0, pi/2]; in [0, 2] for CosFace.
  double scale = 32.0;   // s, in (0, 1024].
};

// Which rows a step uses (design section 5).
struct SamplerOptions {
  enum class Kind { kUniform, kAll, kAllSample, kPositivesOnly, kPool, kBlock };
  Kind kind = Kind::kUniform;
  int64_t sample_count = 0;  // S over all shards, for kUniform (0..N) and kAllSample, kPool and kBlock (1..N).
  int64_t pool_size = 0;     // For kPool: classes in the pool, S..N.
  int64_t rotated_rows = 0;  // For kPool: how many of them a step replaces, 1..pool_size.
  uint64_t seed = 0;
};

// What a step does to the rows that are not among its rows.
enum class IdleUpdate {
  kSkip,   // Nothing.
  kExact,  // What the optimizer does with a zero gradient, as if every row were moved in every step (head/idle_updates.h). SGD alone.
};

// How rows of a step move by their gradients g, with rate = the step's learning rate * rate_scale. Each is the optimizer of that name in
// torch.optim, element by element; what becomes of rows that are not among the step's is IdleUpdate's.
//   kSgd      v = mu v + g + lambda w; w -= rate v. Decoupled: v = mu v + g; w -= rate (v + lambda w). No dampening.
//   kAdamW    w -= rate lambda w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
//             w -= rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon), t the row's own count of updates (arXiv:1711.05101)
//   kAdagrad  h = g + lambda w; a += h^2; w -= rate h / (sqrt(a) + epsilon). No decay of the rate, a starts at 0.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  double momentum = 0.9;                // mu of SGD, in [0, 1).
  double weight_decay = 5e-4;           // lambda, >= 0.
  bool decoupled_weight_decay = false;  // Of SGD.
  double rate_scale = 1.0;              // The head's factor on the step's learning rate, > 0.
  double beta1 = 0.9;                   // Of AdamW, in [0, 1).
  double beta2 = 0.999;                 // Of AdamW, in [0, 1).
  double epsilon = 1e-8;                // Of AdamW and Adagrad, > 0.
  IdleUpdate idle_update = IdleUpdate::kSkip;
};

enum class Placement { kShard, kWorker };

// What a run chooses about a head. All ranks of a run have equal ones.
struct TrainingSpec {
  MarginOptions margin;
  SamplerOptions sampler;
  OptimizerOptions optimizer;  // Of the kind whose slots the head keeps.
  Placement placement = Placement::kShard;
};

// INVALID_ARGUMENT naming the first field out of range, its value and its range, or the optimizer and the slots that it does not fit.
absl::Status Validate(const HeadSpec& head);
absl::Status Validate(const TrainingSpec& training, const HeadSpec& head);

// OK if the specs are equal, else FAILED_PRECONDITION naming the first field that
// differs and both values. `a_name` and `b_name` say whose they are, for example "shard 2" and "this run".
absl::Status CheckSame(const HeadSpec& a, const std::string& a_name, const HeadSpec& b, const std::string& b_name);
absl::Status CheckSame(const TrainingSpec& a, const std::string& a_name, const TrainingSpec& b, const std::string& b_name);

}  // namespace myriad

#endif  // MYRIAD_HEAD_HEAD_SPEC_H_
