#ifndef MYRIAD_SERVER_HEAD_SHARD_H_
#define MYRIAD_SERVER_HEAD_SHARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "server/coverage.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/step/peer_client.h"
#include "server/step/row_gate.h"
#include "server/store/head_folder.h"
#include "server/store/row_store.h"
#include "server/training_session.h"

namespace myriad {

// Connects to the shards of a head, by their addresses in order.
using ConnectPeers = std::function<std::shared_ptr<PeerClient>(const std::string& head, const std::vector<std::string>& addresses)>;

// One head on one shard: its rows, how many steps it has committed, and the run that has it open. Answers come by callback, on any thread;
// no call blocks. Thread-safe. Owned by shared_ptr.
class HeadShard : public std::enable_shared_from_this<HeadShard> {
 public:
  struct Options {
    HeadSpec head;
    int shard_index = 0;
    int shard_count = 1;
    int64_t least_incarnation = 0;  // What the head was opened under before it went back to a save.
  };
  // Rows in one piece.
  struct Rows {
    std::vector<int64_t> class_ids;
    at::Tensor weights;  // n x D.
    at::Tensor slots;    // n x SlotNumbers(), or n x 0 where not asked for.
    std::vector<uint8_t> exists;
    std::vector<int64_t> last_step;
    int64_t committed_steps = 0;  // As of the rows.
  };
  struct Info {
    HeadSpec head;
    int shard_index = 0;
    int shard_count = 1;
    int64_t incarnation = 0;  // Of the run that has it open, or of the last one that the disk knows of.
    int64_t committed_steps = 0;
    int64_t row_count = 0;
    int64_t reserved_row_count = 0;
    std::optional<StepRange> mixed_steps;  // Set where an unclean stop left the rows between steps.
    RowStoreStatistics rows;
    std::optional<TrainingSpec> training;
    StepEngine::Statistics steps;
  };
  using OpenDone = std::function<void(absl::StatusOr<Info>)>;
  using RowsDone = std::function<void(absl::StatusOr<Rows>)>;
  using Done = std::function<void(absl::Status)>;

  // `folder` is what keeps `store` on disk, or nullptr. `executor` and `timer` outlive the object and its tasks.
  HeadShard(const Options& options, std::unique_ptr<RowStore> store, std::unique_ptr<HeadFolder> folder, Executor* executor, Timer* timer,
            ConnectPeers connect);

  // As it is now; class_count may grow.
  HeadSpec spec() const { return shape()->head; }
  // When its classes were last positive.
  const PositiveWatch& positives() const { return *positives_; }
  Info info() const ABSL_LOCKS_EXCLUDED(mu_);
  // Rows that exist. Takes no lock.
  int64_t row_count() const { return store_->row_count(); }
  // OK if the head is what a caller takes it for; FAILED_PRECONDITION naming the difference.
  absl::Status CheckIs(const HeadSpec& head, int shard_index, int shard_count) const;
  // The same of the place alone.
  absl::Status CheckPlace(int shard_index, int shard_count) const;

  // RESOURCE_EXHAUSTED naming the numbers if a step of such a run would not fit the memory that there is now, with what a run that it
  // ends would set free.
  absl::Status CheckStepFits(const SessionOptions& run, const TrainingSpec* ended = nullptr) const;
  // RESOURCE_EXHAUSTED, saying what is wanting, if with so much memory for all that the rows take the head, or a step of the run that it
  // is open for, would not do. OK without a folder.
  absl::Status CheckFitsMemory(int64_t memory_bytes) const ABSL_LOCKS_EXCLUDED(mu_);
  // FAILED_PRECONDITION naming both if a run expects another number of committed steps; one that accepts mixed steps, fewer than there are.
  absl::Status CheckExpectedStep(const SessionOptions& options) const ABSL_LOCKS_EXCLUDED(mu_);
  // True if nothing would be missed but a run of a lower incarnation: no row exists, no step was committed or is under way.
  bool MayGiveWay(int64_t incarnation) const ABSL_LOCKS_EXCLUDED(mu_);

  // Opens the head for a run. A repeat is answered as the first call. A higher incarnation ends the run that is open: its calls are
  // refused, a step that it has voted on is decided first.
  // Errors: FAILED_PRECONDITION (a lower incarnation; the same one with other options, or of a process before this one; rows that lie
  // between steps; another number of committed steps than the run expects), RESOURCE_EXHAUSTED (a step would not fit memory), DATA_LOSS (a
  // step was applied in part only); those of the disk.
  void Open(SessionOptions options, OpenDone done) ABSL_LOCKS_EXCLUDED(mu_);
  // The run that has the head open. DATA_LOSS: none has, this process has lost it, or the rows are torn. FAILED_PRECONDITION: another
  // incarnation.
  absl::StatusOr<std::shared_ptr<TrainingSession>> Session(int64_t incarnation) const ABSL_LOCKS_EXCLUDED(mu_);
  // The same for peers, who may still ask about the run before.
  absl::StatusOr<std::shared_ptr<TrainingSession>> SessionForPeer(int64_t incarnation) const ABSL_LOCKS_EXCLUDED(mu_);

  // INVALID_ARGUMENT unless `class_ids` are strictly increasing and in [0, N); FAILED_PRECONDITION naming a class of another shard.
  absl::Status CheckClassIds(absl::Span<const int64_t> class_ids) const;

  // Calls that read or change rows are DATA_LOSS once a step was applied in part only.
  // Reads rows, virtual ones included. Requires: CheckClassIds.
  void Read(std::vector<int64_t> class_ids, bool with_slots, RowsDone done);
  // Sets rows between two steps. Requires: CheckClassIds; `weights` n x D, `slots` n x SlotNumbers() or 0 x 0 for zeros; both are kept
  // until `done`. No row: what was written before is made durable, and unless rows lie between steps the folder says so. `given_up` is
  // asked when the turn comes: true writes nothing. Errors: RESOURCE_EXHAUSTED, CANCELLED (given up), those of the disk.
  void Write(std::vector<int64_t> class_ids, at::Tensor weights, at::Tensor slots, std::function<bool()> given_up, Done done);
  // Between two steps: as RowStore::StoreVirtualRows(), in a head with a folder.
  struct StoredRun {
    int64_t rows = 0;
    int64_t record_bytes = 0;
    int64_t written_bytes = 0;
    double seconds = 0.0;
    double direct_write_bytes_per_second = 0.0;  // Of one file beside the rows, written right before and right after.
  };
  void StoreVirtualRows(std::function<void(absl::StatusOr<StoredRun>)> done);
  // Reserves and pre-faults. Errors: as RowStore::Reserve.
  void Reserve(int64_t row_count, Done done);
  // Gives the head `class_count` classes, no fewer than `now` has, at its step `committed_steps`; ends the run that has it open, which must
  // not be in a step. Durable where there is a folder. OK, and nothing changes, where it has that many already. `check_only` changes
  // nothing and tells what the call would.
  // Errors: FAILED_PRECONDITION (the head is not `now`, or at another step; a step is under way, or a run opens it; rows that lie between
  // steps), RESOURCE_EXHAUSTED (the head's memory would not do for as many), DATA_LOSS (torn rows), those of the folder.
  void Grow(const HeadSpec& now, int64_t class_count, int64_t committed_steps, bool check_only, Done done) ABSL_LOCKS_EXCLUDED(mu_);
  // Between two steps: from now on with so much memory for all that the rows take. OK without a folder, which has no limit.
  // Errors: as HeadFolder::SetMemory().
  void SetMemory(int64_t memory_bytes, Done done);

  // Between two steps, gives `save` the head's state after `step` committed steps, and what copies its rows into a folder. Errors:
  // FAILED_PRECONDITION (another incarnation, another number of committed steps, no folder), DATA_LOSS as Session(); those of `save`, and
  // for its copy those of HeadFolder::SaveTo().
  using SaveRows = std::function<absl::Status(const HeadState& state, const std::function<absl::Status(const std::string& folder)>& copy)>;
  void Save(int64_t incarnation, int64_t step, SaveRows save, Done done);
  // Gone once nobody can touch the rows any more.
  std::weak_ptr<const RowStore> rows() const { return store_; }

  // One instant of all rows: from the call of `held` to ReleaseRows() no step and no write changes a row; several may hold at once.
  // `yield` is called as RowGate::AcquireShared says: a step of the run waits, and the holder is to release the rows soon.
  void HoldRows(std::function<void(RowGate::ReaderId)> held, std::function<void()> yield) {
    gate_->AcquireShared(std::move(held), std::move(yield));
  }
  void ReleaseRows(RowGate::ReaderId reader) { gate_->ReleaseShared(reader); }
  // While held: up to `max_keys` keys of existing rows above `after`, see RowStore::ScanKeys, and the rows of such keys.
  void ScanKeys(int64_t after, int64_t max_keys, std::function<void(absl::StatusOr<std::vector<int64_t>>)> done);
  void ReadKeys(std::vector<int64_t> keys, bool with_slots, RowsDone done);

  // The server stops.
  void Shutdown(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);
  // After Shutdown(), once no task of the executor is left: all rows go to the disk, and its folder is marked clean. Errors: those of
  // HeadFolder::MarkClean(), DATA_LOSS (torn rows): the folder says that it was not closed.
  absl::Status CloseFolder() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // What the number of classes decides.
  struct Shape {
    explicit Shape(const HeadSpec& spec) : head(spec), partitions(spec.class_count, spec.seed, spec.partition_count) {}
    const HeadSpec head;
    const Partitions partitions;
  };

  std::shared_ptr<const Shape> shape() const { return std::atomic_load(&shape_); }
  // OK if Grow() may begin.
  absl::Status CheckMayGrow(const HeadSpec& now, int64_t class_count, int64_t committed_steps) const ABSL_LOCKS_EXCLUDED(mu_);
  // On the strand, with the rows alone.
  absl::Status GrowNow(const HeadSpec& now, int64_t class_count, int64_t committed_steps) ABSL_LOCKS_EXCLUDED(mu_);
  // DATA_LOSS once a step was applied in part only.
  absl::Status CheckRows() const ABSL_LOCKS_EXCLUDED(mu_);
  // The rows of a step without the positives on top.
  int64_t DrawnRows(const TrainingSpec& training) const;
  // With positives: a pool keeps the rows of its partitions in memory beside them, at its worst step.
  RowStore::StepRows RowsOfStep(const SessionOptions& run) const;
  int64_t CopyBytes(const TrainingSpec& training) const;
  absl::StatusOr<Rows> ReadNow(std::vector<int64_t> class_ids, bool with_slots);
  absl::Status CheckExpectedStepLocked(const SessionOptions& options) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Why a run may not open the head now. OK if it may.
  absl::Status CheckMayOpen(const SessionOptions& options) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // On the strand.
  void FinishOpen(int64_t incarnation) ABSL_LOCKS_EXCLUDED(mu_);
  // Makes the session of `opening_`.
  absl::StatusOr<Info> BeginSession() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // All rows go to the disk, which says that they are those of one step if they are.
  absl::Status MakeDurable() ABSL_LOCKS_EXCLUDED(mu_);
  // Runs on the strand with the rows alone, releases them and answers with what it returned.
  void RunBetweenSteps(std::function<absl::Status()> task, Done done);
  Info InfoLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;                     // class_count as it was at first.
  std::shared_ptr<const Shape> shape_;        // Set by GrowNow(), read by shape().
  const std::shared_ptr<RowStore> store_;     // Used on the strand alone, as is
  const std::unique_ptr<HeadFolder> folder_;  // this. May be nullptr.
  Timer* const timer_;
  const ConnectPeers connect_;
  const std::shared_ptr<Strand> strand_;
  const std::shared_ptr<RowGate> gate_;
  const std::shared_ptr<PositiveWatch> positives_;

  mutable absl::Mutex mu_;
  absl::Status stopped_ ABSL_GUARDED_BY(mu_);
  absl::Status torn_ ABSL_GUARDED_BY(mu_);  // DATA_LOSS once a step was applied in part only; for good.
  int64_t committed_steps_ ABSL_GUARDED_BY(mu_) = 0;
  // As the folder had it when it was opened.
  int64_t stored_incarnation_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<TrainingSpec> stored_training_ ABSL_GUARDED_BY(mu_);
  std::optional<StepRange> mixed_steps_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<TrainingSession> session_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<TrainingSession> previous_ ABSL_GUARDED_BY(mu_);  // For peers.
  bool growing_ ABSL_GUARDED_BY(mu_) = false;                       // Grow() waits for the run to end.
  // An Open() that waits for the run before to end.
  std::optional<SessionOptions> opening_ ABSL_GUARDED_BY(mu_);
  std::vector<OpenDone> waiting_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_HEAD_SHARD_H_
