#ifndef MYRIAD_CLIENT_HEAD_CLIENT_H_
#define MYRIAD_CLIENT_HEAD_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "head/head_spec.h"

namespace myriad {

// What the ranks of a run exchange among themselves in compute at the worker. The worker implements it over c10d; one rank alone needs none
// (SingleRankExchange). Every rank must call the same methods in the same order. Tensors are float32 on the exchange's device.
class RankExchange {
 public:
  virtual ~RankExchange() = default;
  virtual int rank() const = 0;
  virtual int rank_count() const = 0;
  // Rows of all ranks in rank order. `rows` is B_r x D; `rank_sizes[r]` = B_r, known to all (FetchStepResponse).
  virtual absl::StatusOr<at::Tensor> AllGatherRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) = 0;
  // The sum over ranks of `rows` (B x D), of which this rank gets its own B_r rows.
  virtual absl::StatusOr<at::Tensor> ReduceScatterRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) = 0;
};

// One rank: everything is its own already.
std::unique_ptr<RankExchange> MakeSingleRankExchange();

// One chunk of one step of this rank.
struct StepInput {
  int64_t step = 0;  // t. EVALUATE: whose rows are drawn; if the run has evaluated at t or later, those of the next number that is free.
  int chunk = 0;
  int chunk_count = 1;
  bool evaluate = false;                  // Loss and dX only; nothing moves. All ranks evaluate the same steps in the same order.
  double learning_rate = 0.0;             // Before the head's rate_scale.
  at::Tensor embeddings;                  // B_r x D float32, any device; may have 0 rows.
  absl::Span<const int64_t> labels;       // B_r class ids.
  absl::Span<const int64_t> step_labels;  // Chunk 0 of several: the labels of all of this rank's chunks; else empty.
  // Chunk 0: the labels that this rank will bring to the steps that follow, the nearest first; those of 8 steps are sent. Hints: shards
  // read rows of theirs ahead, and no result depends on them.
  absl::Span<const std::vector<int64_t>> coming_labels = {};
};

// Seconds of a step's phases on the slowest shard (compute at the shard).
struct ShardSeconds {
  double gather = 0.0;          // Rows gathered, from the last rank's arrival.
  double forward = 0.0;         // Logits and partial denominators.
  double vote = 0.0;            // Waiting for the reducer.
  double previous_apply = 0.0;  // Of the step before: row gradients, optimizer, commit.
};

// Where the shards found the rows of a step, summed over them (compute at the shard). All zero after the first chunk.
struct RowSources {
  int64_t hits = 0;                // In memory.
  int64_t awaited = 0;             // Announced, and still on their way into memory.
  int64_t misses = 0;              // On disk.
  int64_t created = 0;             // Virtual until then.
  double disk_wait_seconds = 0.0;  // On the slowest shard.

  void Add(const RowSources& other) {
    hits += other.hits;
    awaited += other.awaited;
    misses += other.misses;
    created += other.created;
    disk_wait_seconds += other.disk_wait_seconds;
  }
};

struct StepResult {
  at::Tensor embedding_gradients;  // B_r x D float32, on the embeddings' device; summed over the shards.
  double loss = 0.0;               // This chunk's part of the step's loss; the same on all ranks.
  int64_t sample_count = 0;        // Of the chunk, all ranks.
  int64_t target_count = 0;
  double target_cosine_sum = 0.0;
  int64_t row_count = 0;         // Rows of the step over all shards.
  int64_t degenerate_count = 0;  // Rows and embeddings with a norm below 1e-12, as each participant counted them.
  int64_t wire_bytes = 0;        // Messages that this rank sent and received for the decided attempt, gRPC prefixes included.
  ShardSeconds shard_seconds;
  RowSources row_sources;
};

// What the shards have of a head before a run opens it; all 0 if it is new to them.
struct HeadOnShards {
  int64_t incarnation = 0;      // The largest of any shard.
  int64_t committed_steps = 0;  // The same.
  int64_t class_count = 0;      // The same: shards differ after a grow that was broken off.
  int64_t row_count = 0;        // Rows that exist, on all shards together.
};

// A part of the rows that exist on a shard, in the order of its store. Valid during a visit.
struct RowBatch {
  int shard = 0;
  absl::Span<const int64_t> class_ids;
  at::Tensor weights;           // rows x D float32.
  at::Tensor slots;             // rows x the numbers of a row's slots; 0 rows where not asked for.
  int64_t committed_steps = 0;  // Of the head at the instant of the read.
  int64_t shard_row_count = 0;  // Rows that exist on the shard at that instant: those of all batches.
};

// A head as one rank of a run sees it: all shards behind one object. Thread-compatible: one step at a time.
//
// Retries: UNAVAILABLE with backoff until `shard_wait`, then DATA_LOSS naming the shard; ABORTED steps with the attempt that the shards
// name, up to `max_attempts`; one that ends in a later chunk begins again at chunk 0, from what the client has kept of the step's chunks.
// All are safe: a repeat of a mutating call does nothing. Every RPC has a deadline.
class HeadClient {
 public:
  struct Options {
    HeadSpec head;
    TrainingSpec training;
    std::vector<std::string> shard_addresses;  // host:port of all K shards in order.
    int rank = 0;
    int rank_count = 1;
    int64_t labels_per_step = 0;  // Over all ranks, at most: a shard whose --memory is too small for them refuses. 0: not known.
    absl::Duration step_deadline = absl::Seconds(20);  // Given to the shards; the client's own is longer.
    absl::Duration shard_wait = absl::Seconds(10);
    int max_attempts = 5;
    absl::optional<int64_t> expected_step;     // Steps that the head must have committed when it is opened; any number when absent.
    bool accept_mixed_steps = false;           // Opens rows that an unclean stop of a shard left between two steps.
    DataType wire_dtype = DataType::kFloat32;  // Of embeddings and their gradients.
    RankExchange* exchange = nullptr;          // Required for Placement::kWorker with several ranks; outlives the client.
  };

  // Makes the channels. Errors: INVALID_ARGUMENT (no address, a spec out of range).
  static absl::StatusOr<std::unique_ptr<HeadClient>> Create(const Options& options);
  virtual ~HeadClient() = default;

  // Waits up to `timeout` until all shards answer. Errors: UNAVAILABLE naming the address that does not.
  virtual absl::Status WaitForShards(absl::Duration timeout) = 0;

  // What the shards have of the head now.
  virtual absl::StatusOr<HeadOnShards> Describe() = 0;

  // The largest incarnation that any shard knows for the head, plus 1. Rank 0 calls it and gives the number to the other ranks.
  virtual absl::StatusOr<int64_t> MintIncarnation() = 0;

  // Opens the head on all shards. Returns the steps committed in its whole life, equal on all shards (else FAILED_PRECONDITION naming two).
  virtual absl::StatusOr<int64_t> Open(int64_t incarnation) = 0;

  // One chunk of a step at the placement of the TrainingSpec (EVALUATE: always at the shards). Returns once the step is decided on all
  // shards. With several ranks, all call it with the same step and chunk.
  // Errors: as center_shard.proto; each starts with "shard K (address)". INVALID_ARGUMENT too for embeddings that are no 2-d float32
  // tensor with a row for each label, for a chunk without those before it, and for several chunks with compute at the worker.
  virtual absl::StatusOr<StepResult> Step(const StepInput& input) = 0;

  // Centers by class id (any order, of any shard, repeats allowed) as stored, class_ids.size() x D on the CPU. `exists`, if given, tells
  // which are not virtual. Errors: INVALID_ARGUMENT (a class out of range; names it).
  virtual absl::StatusOr<at::Tensor> FetchCenters(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) = 0;

  // All rows that exist, shard by shard. Errors: FAILED_PRECONDITION if the shards stand at different steps; the visitor's, which end it.
  using RowVisitor = std::function<absl::Status(const RowBatch& batch)>;
  virtual absl::Status ReadRows(bool with_slots, const RowVisitor& visitor) = 0;

  // Sets rows (any order, of any shard), in requests of some MiB that are each all or nothing. `slots` may be undefined: zeros.
  // Errors: INVALID_ARGUMENT (a class out of range or given twice, shapes that do not fit).
  virtual absl::Status WriteRows(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) = 0;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_HEAD_CLIENT_H_
