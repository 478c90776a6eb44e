#include "server/head_shard.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/Functions.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/pool_rotation.h"
#include "server/step/shard_step_work.h"
#include "server/step/step_errors.h"
#include "server/step/worker_step_work.h"
#include "server/store/direct_write.h"
#include "server/store/memory_division.h"

namespace myriad {
namespace {

// Positives for which a pool leaves room, where a run does not say how many a step has.
constexpr int64_t kRoomForPositives = 1024;
// What a bulk load is compared with.
constexpr int64_t kDirectWriteBytes = int64_t{1} << 30;

}  // namespace

HeadShard::HeadShard(const Options& options, std::unique_ptr<RowStore> store, std::unique_ptr<HeadFolder> folder, Executor* executor,
                     Timer* timer, ConnectPeers connect)
    : options_(options),
      shape_(std::make_shared<Shape>(options.head)),
      store_(std::move(store)),
      folder_(std::move(folder)),
      timer_(timer),
      connect_(std::move(connect)),
      strand_(std::make_shared<Strand>(executor)),
      gate_(std::make_shared<RowGate>()),
      positives_(std::make_shared<PositiveWatch>(shape_->partitions.ShardSize(options.shard_index, options.shard_count))) {
  if (folder_ == nullptr) return;
  committed_steps_ = folder_->state().committed_steps;
  stored_incarnation_ = std::max(folder_->state().incarnation, options.least_incarnation);
  stored_training_ = folder_->state().training;
  mixed_steps_ = folder_->mixed_steps();
}

HeadShard::Info HeadShard::InfoLocked() const {
  Info info;
  info.head = shape()->head;
  info.shard_index = options_.shard_index;
  info.shard_count = options_.shard_count;
  info.committed_steps = committed_steps_;
  info.row_count = store_->row_count();
  info.reserved_row_count = store_->reserved_row_count();
  info.incarnation = stored_incarnation_;
  info.training = stored_training_;
  info.mixed_steps = mixed_steps_;
  if (session_ != nullptr) {
    info.incarnation = session_->options().incarnation;
    info.training = session_->options().training;
  }
  return info;
}

HeadShard::Info HeadShard::info() const {
  std::shared_ptr<TrainingSession> session;
  Info info;
  {
    absl::MutexLock lock(&mu_);
    info = InfoLocked();
    session = session_;
  }
  info.rows = store_->statistics();
  if (session != nullptr) {
    info.steps = session->train().statistics();
    const StepEngine::Statistics evaluations = session->evaluate().statistics();
    info.steps.open_steps += evaluations.open_steps;
    info.steps.aborted_attempts += evaluations.aborted_attempts;
  }
  return info;
}

absl::Status HeadShard::CheckIs(const HeadSpec& head, int shard_index, int shard_count) const {
  if (absl::Status status = CheckSame(shape()->head, "the shard", head, "the call"); !status.ok()) return status;
  return CheckPlace(shard_index, shard_count);
}

absl::Status HeadShard::CheckPlace(int shard_index, int shard_count) const {
  if (shard_index != options_.shard_index || shard_count != options_.shard_count) {
    return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "': this server is shard ", options_.shard_index,
                                                      " of ", options_.shard_count, " of it; the call says shard ", shard_index, " of ",
                                                      shard_count));
  }
  return absl::OkStatus();
}

int64_t HeadShard::DrawnRows(const TrainingSpec& training) const {
  const std::shared_ptr<const Shape> shape = this->shape();
  const int64_t shard_size = shape->partitions.ShardSize(options_.shard_index, options_.shard_count);
  switch (training.sampler.kind) {
    case SamplerOptions::Kind::kAll: return shard_size;
    case SamplerOptions::Kind::kUniform:
    case SamplerOptions::Kind::kAllSample: return std::min(shard_size, training.sampler.sample_count / options_.shard_count);
    case SamplerOptions::Kind::kPool:
    case SamplerOptions::Kind::kBlock: {
      const PoolRotation rotation(shape->partitions, training.sampler);
      const auto [first, last] = shape->partitions.ShardRange(options_.shard_index, options_.shard_count);
      const double share = static_cast<double>(rotation.MostResidentRows(first, last)) / rotation.pool_size();
      return static_cast<int64_t>(std::ceil(training.sampler.sample_count * std::min(share, 1.0)));
    }
    case SamplerOptions::Kind::kPositivesOnly: break;
  }
  return 0;
}

RowStore::StepRows HeadShard::RowsOfStep(const SessionOptions& run) const {
  const TrainingSpec& training = run.training;
  const std::shared_ptr<const Shape> shape = this->shape();
  const int64_t all = shape->partitions.ShardSize(options_.shard_index, options_.shard_count);
  // A step has positives beside what it draws, of which all may be of this shard. At least one, where a run does not say how many: a step
  // with more than fit is refused by itself. Of ALL_SAMPLE they are drawn like others or not at all.
  const bool has_positives = training.sampler.kind != SamplerOptions::Kind::kAllSample;
  const int64_t positives = has_positives ? std::min(all, std::max<int64_t>(1, run.labels_per_step)) : 0;
  RowStore::StepRows rows;
  rows.count = std::min(all, DrawnRows(training) + positives);
  rows.resident = rows.count;
  if (HasPool(training.sampler.kind)) {
    const auto [first, last] = shape->partitions.ShardRange(options_.shard_index, options_.shard_count);
    const int64_t beside = run.labels_per_step > 0 ? positives : kRoomForPositives;
    rows.resident = std::min(all, PoolRotation(shape->partitions, training.sampler).MostResidentRows(first, last) + beside);
  }
  return rows;
}

int64_t HeadShard::CopyBytes(const TrainingSpec& training) const {
  const int copies = training.placement == Placement::kShard ? ShardStepWork::kCopiesOfRows : WorkerStepWork::kCopiesOfRows;
  return int64_t{4} * options_.head.embedding_dim * copies * DrawnRows(training);
}

absl::Status HeadShard::CheckStepFits(const SessionOptions& run, const TrainingSpec* ended) const {
  const TrainingSpec& training = run.training;
  // Positives come on top; the step that has them asks for their memory.
  const int64_t rows = DrawnRows(training);
  if (absl::Status status = store_->CheckRowsFit(RowsOfStep(run)); !status.ok()) return status;
  const int64_t new_rows = std::min(rows, shape()->partitions.ShardSize(options_.shard_index, options_.shard_count) - store_->row_count());
  return store_->CheckMemory(
      CopyBytes(training) - (ended != nullptr ? CopyBytes(*ended) : 0) + store_->BytesOfNewRows(new_rows),
      absl::StrCat("the ", rows, " rows of a step with ", options_.head.embedding_dim, " numbers each, ", new_rows, " of them new,"));
}

absl::Status HeadShard::CheckFitsMemory(int64_t memory_bytes) const {
  if (folder_ == nullptr) return absl::OkStatus();
  const std::shared_ptr<const Shape> shape = this->shape();
  const absl::StatusOr<MemoryDivision> division =
      DivideMemory(shape->head, shape->partitions.ShardSize(options_.shard_index, options_.shard_count), memory_bytes);
  if (!division.ok()) return division.status();
  std::shared_ptr<TrainingSession> session;
  {
    absl::MutexLock lock(&mu_);
    session = session_;
  }
  return session == nullptr ? absl::OkStatus() : store_->CheckRowsFit(RowsOfStep(session->options()), division->rows_bytes);
}

absl::Status HeadShard::CheckExpectedStepLocked(const SessionOptions& options) const {
  const std::optional<int64_t>& expected_step = options.expected_step;
  if (!expected_step || *expected_step == committed_steps_) return absl::OkStatus();
  if (options.accept_mixed_steps && *expected_step > committed_steps_) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' has committed ", committed_steps_, " steps on shard ",
                                                    options_.shard_index, "; the run goes on from step ", *expected_step));
}

absl::Status HeadShard::CheckExpectedStep(const SessionOptions& options) const {
  absl::MutexLock lock(&mu_);
  return CheckExpectedStepLocked(options);
}

bool HeadShard::MayGiveWay(int64_t incarnation) const {
  std::shared_ptr<TrainingSession> session;
  {
    absl::MutexLock lock(&mu_);
    if (store_->row_count() > 0 || committed_steps_ > 0) return false;
    const SessionOptions* open = opening_ ? &*opening_ : session_ != nullptr ? &session_->options() : nullptr;
    if (open != nullptr && open->incarnation >= incarnation) return false;
    session = session_;
  }
  return session == nullptr || session->train().statistics().open_steps == 0;
}

absl::Status HeadShard::CheckMayOpen(const SessionOptions& options) const {
  const SessionOptions* open = opening_ ? &*opening_ : session_ != nullptr ? &session_->options() : nullptr;
  const auto refuse = [&](const auto&... parts) {
    return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' ", parts...));
  };
  if (!stopped_.ok()) return stopped_;
  if (!torn_.ok()) return torn_;
  if (growing_) return refuse("is being given more classes");
  if (const int64_t classes = shape()->head.class_count; options.class_count != 0 && options.class_count != classes) {
    return refuse("has ", classes, " classes; the run takes it for one of ", options.class_count);
  }
  if (open != nullptr && options.incarnation < open->incarnation) {
    return refuse("is open under incarnation ", open->incarnation, "; ", options.incarnation, " is not greater");
  }
  // One who waits for the answer to a repeat has taken no step yet either.
  if (absl::Status status = CheckExpectedStepLocked(options); !status.ok()) return status;
  if (open != nullptr && options.incarnation == open->incarnation) return CheckSame(*open, options);
  if (options.incarnation <= stored_incarnation_) {
    return refuse("was opened under incarnation ", stored_incarnation_, " before this server started; ", options.incarnation,
                  " is not greater");
  }
  if (mixed_steps_ && !options.accept_mixed_steps) {
    return refuse("on shard ", options_.shard_index, ": the server was stopped without closing it, and its rows are as steps ",
                  mixed_steps_->oldest, " to ", mixed_steps_->newest,
                  " left them; go back to a save with --resume, or train on from them with --accept-mixed-steps");
  }
  return CheckStepFits(options, session_ != nullptr ? &session_->options().training : nullptr);
}

void HeadShard::Open(SessionOptions options, OpenDone done) {
  std::vector<std::function<void()>> answers;
  std::shared_ptr<TrainingSession> ending;
  const int64_t incarnation = options.incarnation;
  bool begins = false;
  {
    absl::MutexLock lock(&mu_);
    const SessionOptions* open = opening_ ? &*opening_ : session_ != nullptr ? &session_->options() : nullptr;
    const bool repeat = open != nullptr && incarnation == open->incarnation;
    if (absl::Status status = CheckMayOpen(options); !status.ok()) {
      answers.push_back([done = std::move(done), status] { done(status); });
    } else if (repeat && !opening_) {
      answers.push_back([done = std::move(done), info = InfoLocked()] { done(info); });
    } else {
      if (!repeat) {
        for (OpenDone& waiting : std::exchange(waiting_, {})) {
          answers.push_back([waiting = std::move(waiting), incarnation] {
            waiting(absl::FailedPreconditionError(absl::StrCat("incarnation ", incarnation, " has taken over")));
          });
        }
        opening_ = std::move(options);
        ending = session_;
        begins = true;
      }
      waiting_.push_back(std::move(done));
    }
  }
  for (const auto& answer : answers) answer();
  if (!begins) return;
  const auto finish = [self = shared_from_this(), incarnation] {
    self->strand_->Run([self, incarnation] { self->FinishOpen(incarnation); });
  };
  if (ending == nullptr) return finish();
  ending->Close(absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' was opened by another run (incarnation ",
                                                           incarnation, "); this run must stop")),
                finish);
}

void HeadShard::FinishOpen(int64_t incarnation) {
  {
    absl::MutexLock lock(&mu_);
    if (!opening_ || opening_->incarnation != incarnation) return;
    // All shards of a head whose rows are mixed count on from one step.
    if (opening_->accept_mixed_steps) committed_steps_ = std::max(committed_steps_, opening_->expected_step.value_or(0));
  }
  absl::Status marked;
  if (folder_ != nullptr) {
    TrainingSpec training;
    int64_t committed_steps;
    {
      absl::MutexLock lock(&mu_);
      if (!opening_ || opening_->incarnation != incarnation) return;
      training = opening_->training;
      committed_steps = committed_steps_;
    }
    store_->KeepPartitions({});
    marked = CatchAll([&] { return folder_->MarkOpened(incarnation, training, committed_steps); });
  }
  std::vector<OpenDone> waiting;
  absl::StatusOr<Info> info = Info();
  {
    absl::MutexLock lock(&mu_);
    if (!opening_ || opening_->incarnation != incarnation) return;  // A higher one has come meanwhile.
    waiting.swap(waiting_);
    if (marked.ok()) {
      info = BeginSession();
    } else {
      opening_.reset();
      info = marked;
    }
  }
  for (const OpenDone& done : waiting) done(info);
}

absl::StatusOr<HeadShard::Info> HeadShard::BeginSession() {
  mixed_steps_.reset();
  TrainingSession::Parts parts;
  parts.head = shape()->head;
  parts.committed_steps = committed_steps_;
  parts.store = store_;
  parts.strand = strand_;
  parts.gate = gate_;
  parts.positives = positives_;
  parts.timer = timer_;
  parts.peers = connect_(options_.head.name, opening_->shard_addresses);
  parts.on_commit = [weak = weak_from_this()](int64_t step) {
    const std::shared_ptr<HeadShard> self = weak.lock();
    if (self == nullptr) return;
    absl::MutexLock lock(&self->mu_);
    self->committed_steps_ = step + 1;
  };
  parts.on_torn = [weak = weak_from_this()](const absl::Status& reason) {
    const std::shared_ptr<HeadShard> self = weak.lock();
    if (self == nullptr) return;
    absl::MutexLock lock(&self->mu_);
    self->torn_ = absl::DataLossError(absl::StrCat(reason.message(), ": some of its rows on shard ", self->options_.shard_index,
                                                   " have moved and some have not; restart the shards and restore the head"));
  };
  // The last step of the run before may have been committed meanwhile, or in part.
  absl::Status status = torn_.ok() ? CheckExpectedStepLocked(*opening_) : torn_;
  previous_ = std::move(session_);
  session_ = std::make_shared<TrainingSession>(*std::exchange(opening_, std::nullopt), parts);
  if (!status.ok()) return status;
  return InfoLocked();
}

absl::StatusOr<std::shared_ptr<TrainingSession>> HeadShard::Session(int64_t incarnation) const {
  absl::MutexLock lock(&mu_);
  if (!stopped_.ok()) return stopped_;
  if (!torn_.ok()) return torn_;
  if (session_ == nullptr) {
    return absl::DataLossError(
        absl::StrCat("shard ", options_.shard_index, " has not opened head '", options_.head.name, "': it restarted"));
  }
  if (session_->options().incarnation != incarnation || opening_) {
    return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' is open under incarnation ",
                                                      opening_ ? opening_->incarnation : session_->options().incarnation, "; the call has ",
                                                      incarnation));
  }
  return session_;
}

absl::StatusOr<std::shared_ptr<TrainingSession>> HeadShard::SessionForPeer(int64_t incarnation) const {
  absl::MutexLock lock(&mu_);
  for (const std::shared_ptr<TrainingSession>& session : {session_, previous_}) {
    if (session != nullptr && session->options().incarnation == incarnation) return session;
  }
  if (session_ == nullptr) {
    return absl::DataLossError(
        absl::StrCat("shard ", options_.shard_index, " has not opened head '", options_.head.name, "': it restarted"));
  }
  return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' is open under incarnation ",
                                                    session_->options().incarnation, "; the call has ", incarnation));
}

absl::Status HeadShard::CheckClassIds(absl::Span<const int64_t> class_ids) const {
  const std::shared_ptr<const Shape> shape = this->shape();
  int64_t last = -1;
  for (int64_t class_id : class_ids) {
    if (class_id < 0 || class_id >= shape->head.class_count) {
      return absl::InvalidArgumentError(absl::StrCat("class ", class_id, " is outside [0, ", shape->head.class_count, ")"));
    }
    if (class_id <= last)
      return absl::InvalidArgumentError(absl::StrCat("class ids must increase strictly; ", class_id, " follows ", last));
    last = class_id;
    if (const int owner = shape->partitions.ShardOfClass(class_id, options_.shard_count); owner != options_.shard_index) {
      return absl::FailedPreconditionError(absl::StrCat("class ", class_id, " of head '", options_.head.name, "' is on shard ", owner,
                                                        " of ", options_.shard_count, "; this is shard ", options_.shard_index));
    }
  }
  return absl::OkStatus();
}

absl::Status HeadShard::CheckRows() const {
  absl::MutexLock lock(&mu_);
  return torn_;
}

absl::StatusOr<HeadShard::Rows> HeadShard::ReadNow(std::vector<int64_t> class_ids, bool with_slots) {
  if (absl::Status status = CheckRows(); !status.ok()) return status;
  Rows rows;
  const int64_t count = class_ids.size();
  rows.class_ids = std::move(class_ids);
  rows.weights = at::empty({count, options_.head.embedding_dim}, at::kFloat);
  rows.slots = at::empty({count, with_slots ? SlotNumbers(options_.head) : 0}, at::kFloat);
  rows.exists.resize(count);
  rows.last_step.resize(count);
  if (absl::Status status =
          store_->Read(rows.class_ids, rows.weights.mutable_data_ptr<float>(), with_slots ? rows.slots.mutable_data_ptr<float>() : nullptr,
                       rows.exists.data(), rows.last_step.data());
      !status.ok()) {
    return status;
  }
  absl::MutexLock lock(&mu_);
  rows.committed_steps = committed_steps_;
  return rows;
}

void HeadShard::Read(std::vector<int64_t> class_ids, bool with_slots, RowsDone done) {
  strand_->Run([self = shared_from_this(), class_ids = std::move(class_ids), with_slots, done = std::move(done)]() mutable {
    done(CatchAll([&] { return self->ReadNow(std::move(class_ids), with_slots); }));
  });
}

void HeadShard::ScanKeys(int64_t after, int64_t max_keys, std::function<void(absl::StatusOr<std::vector<int64_t>>)> done) {
  strand_->Run([self = shared_from_this(), after, max_keys, done = std::move(done)] {
    done(CatchAll([&]() -> absl::StatusOr<std::vector<int64_t>> {
      if (absl::Status status = self->CheckRows(); !status.ok()) return status;
      return self->store_->ScanKeys(after, max_keys);
    }));
  });
}

void HeadShard::ReadKeys(std::vector<int64_t> keys, bool with_slots, RowsDone done) {
  for (int64_t& key : keys) key = store_->ClassOfKey(key);
  Read(std::move(keys), with_slots, std::move(done));
}

void HeadShard::Write(std::vector<int64_t> class_ids, at::Tensor weights, at::Tensor slots, std::function<bool()> given_up, Done done) {
  RunBetweenSteps(
      [this, class_ids = std::move(class_ids), weights = std::move(weights), slots = std::move(slots), given_up = std::move(given_up)] {
        if (given_up()) return absl::CancelledError("the caller is gone");
        if (absl::Status status = CheckRows(); !status.ok()) return status;
        if (class_ids.empty()) return MakeDurable();
        return store_->Write(class_ids, weights.const_data_ptr<float>(), slots.numel() > 0 ? slots.const_data_ptr<float>() : nullptr);
      },
      std::move(done));
}

absl::Status HeadShard::MakeDurable() {
  if (folder_ == nullptr) return absl::OkStatus();
  int64_t committed_steps;
  {
    absl::MutexLock lock(&mu_);
    // Rows that lie between steps stay marked so.
    if (mixed_steps_) return store_->Flush();
    committed_steps = committed_steps_;
  }
  return folder_->MarkClean(committed_steps);
}

void HeadShard::RunBetweenSteps(std::function<absl::Status()> task, Done done) {
  const auto run = [self = shared_from_this(), task = std::move(task), done = std::move(done)] {
    const absl::Status status = CatchAll(task);
    self->gate_->Release();
    done(status);
  };
  gate_->Acquire([strand = strand_, run] { strand->Run(run); });
}

absl::Status HeadShard::CheckMayGrow(const HeadSpec& now, int64_t class_count, int64_t committed_steps) const {
  if (absl::Status status = CheckIs(now, options_.shard_index, options_.shard_count); !status.ok()) return status;
  const auto refuse = [&](const auto&... parts) {
    return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' on shard ", options_.shard_index, ": ", parts...));
  };
  std::shared_ptr<TrainingSession> session;
  {
    absl::MutexLock lock(&mu_);
    if (!stopped_.ok()) return stopped_;
    if (!torn_.ok()) return torn_;
    if (opening_ || growing_) return refuse(opening_ ? "a run is opening it" : "it is being given more classes");
    if (mixed_steps_) return refuse("its rows lie between steps ", mixed_steps_->oldest, " and ", mixed_steps_->newest);
    if (committed_steps_ != committed_steps) return refuse("it is at step ", committed_steps_, "; the call takes it at ", committed_steps);
    session = session_;
  }
  const int64_t open_steps =
      session == nullptr ? 0 : session->train().statistics().open_steps + session->evaluate().statistics().open_steps;
  if (open_steps > 0) return refuse("a step of the run that trains it is under way; stop the run first");
  if (folder_ == nullptr) return absl::OkStatus();
  const int64_t shard_classes =
      Partitions(class_count, now.seed, now.partition_count).ShardSize(options_.shard_index, options_.shard_count);
  return DivideMemory(now, shard_classes, folder_->memory_bytes()).status();
}

void HeadShard::Grow(const HeadSpec& now, int64_t class_count, int64_t committed_steps, bool check_only, Done done) {
  HeadSpec grown = now;
  grown.class_count = class_count;
  if (shape()->head == grown) return done(absl::OkStatus());
  absl::Status status = CheckMayGrow(now, class_count, committed_steps);
  std::shared_ptr<TrainingSession> ending;
  if (status.ok() && !check_only) {
    absl::MutexLock lock(&mu_);
    // Another may have begun meanwhile.
    if (opening_ || growing_) status = absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' is in use; try again"));
    growing_ = growing_ || status.ok();
    ending = session_;
  }
  if (!status.ok() || check_only) return done(status);
  const auto grow = [self = shared_from_this(), now, class_count, committed_steps, done = std::move(done)] {
    self->RunBetweenSteps([self, now, class_count, committed_steps] { return self->GrowNow(now, class_count, committed_steps); }, done);
  };
  if (ending == nullptr) return grow();
  ending->Close(absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' has grown to ", class_count,
                                                           " classes; this run must stop, and may be started again with as many")),
                grow);
}

absl::Status HeadShard::GrowNow(const HeadSpec& now, int64_t class_count, int64_t committed_steps) {
  const absl::Cleanup over = [this] {
    absl::MutexLock lock(&mu_);
    growing_ = false;
  };
  HeadSpec grown = now;
  grown.class_count = class_count;
  absl::Status status = CheckRows();
  {
    absl::MutexLock lock(&mu_);
    // A step may have been committed before the run ended.
    if (status.ok() && committed_steps_ != committed_steps) {
      status = absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' went on to step ", committed_steps_));
    }
  }
  if (status.ok() && folder_ != nullptr) status = folder_->Grow(class_count);
  if (status.ok() && folder_ == nullptr) store_->Grow(class_count);
  if (!status.ok()) return status;
  const std::shared_ptr<const Shape> shape = std::make_shared<Shape>(grown);
  positives_->Grow(shape->partitions.ShardSize(options_.shard_index, options_.shard_count));
  std::atomic_store(&shape_, shape);
  // What keeps track of the new classes takes from the rows.
  return folder_ == nullptr ? absl::OkStatus() : folder_->SetMemory(folder_->memory_bytes());
}

void HeadShard::SetMemory(int64_t memory_bytes, Done done) {
  if (folder_ == nullptr) return done(absl::OkStatus());
  RunBetweenSteps([this, memory_bytes] { return folder_->SetMemory(memory_bytes); }, std::move(done));
}

void HeadShard::StoreVirtualRows(std::function<void(absl::StatusOr<StoredRun>)> done) {
  const auto run = std::make_shared<StoredRun>();
  RunBetweenSteps(
      [this, run] {
        absl::Status status = CheckRows();
        if (status.ok() && folder_ == nullptr) status = absl::FailedPreconditionError("a head can be stored only where --store is given");
        if (!status.ok()) return status;
        absl::StatusOr<double> direct = WriteDirectly(folder_->path(), kDirectWriteBytes);
        if (!direct.ok()) return direct.status();
        const double direct_seconds = *direct;
        const RowStoreStatistics before = store_->statistics();
        const int64_t rows_before = store_->row_count();
        const absl::Time start = absl::Now();
        status = store_->StoreVirtualRows();
        run->seconds = absl::ToDoubleSeconds(absl::Now() - start);
        run->rows = store_->row_count() - rows_before;
        run->record_bytes = before.record_bytes;
        run->written_bytes = store_->statistics().cold.written_bytes - before.cold.written_bytes;
        if (!status.ok()) return status;
        direct = WriteDirectly(folder_->path(), kDirectWriteBytes);
        if (direct.ok()) run->direct_write_bytes_per_second = 2.0 * kDirectWriteBytes / (direct_seconds + *direct);
        return direct.status();
      },
      [run, done = std::move(done)](const absl::Status& status) { status.ok() ? done(*run) : done(status); });
}

void HeadShard::Reserve(int64_t row_count, Done done) {
  strand_->Run(
      [self = shared_from_this(), row_count, done = std::move(done)] { done(CatchAll([&] { return self->store_->Reserve(row_count); })); });
}

void HeadShard::Save(int64_t incarnation, int64_t step, SaveRows save, Done done) {
  RunBetweenSteps(
      [this, incarnation, step, save = std::move(save)]() -> absl::Status {
        if (folder_ == nullptr) return absl::FailedPreconditionError("this server has no --store: it keeps no saves");
        if (absl::Status status = Session(incarnation).status(); !status.ok()) return status;
        HeadState state = folder_->state();
        state.incarnation = incarnation;
        {
          absl::MutexLock lock(&mu_);
          state.committed_steps = committed_steps_;
        }
        if (state.committed_steps != step) {
          return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' has committed ", state.committed_steps,
                                                            " steps on shard ", options_.shard_index, "; the save is of step ", step));
        }
        return save(state, [this, step](const std::string& folder) { return folder_->SaveTo(folder, step); });
      },
      std::move(done));
}

absl::Status HeadShard::CloseFolder() {
  if (folder_ == nullptr) return absl::OkStatus();
  if (absl::Status status = CheckRows(); !status.ok()) return status;
  store_->Unpin();
  return CatchAll([&] { return MakeDurable(); });
}

void HeadShard::Shutdown(const absl::Status& reason) {
  std::vector<std::shared_ptr<TrainingSession>> sessions;
  std::vector<OpenDone> waiting;
  {
    absl::MutexLock lock(&mu_);
    stopped_ = reason;
    sessions = {session_, previous_};
    waiting.swap(waiting_);
    opening_.reset();
  }
  for (const OpenDone& done : waiting) done(reason);
  for (const std::shared_ptr<TrainingSession>& session : sessions) {
    if (session != nullptr) session->Shutdown(reason);
  }
}

}  // namespace myriad
