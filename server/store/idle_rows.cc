#include "server/store/idle_rows.h"

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "myriad/storage/v1/idle_updates.pb.h"

namespace myriad {

IdleRows::IdleRows(const HeadSpec& head) : head_(head), codec_(head) {}

absl::Status IdleRows::Prepare(int64_t step, const SgdStep& constants) {
  try {
    absl::MutexLock lock(&mu_);
    updates_.Reserve(step);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("head '", head_.name, "': no memory to remember what step ", step, " does to idle rows"));
  }
  prepared_ = constants;
  return absl::OkStatus();
}

void IdleRows::Commit(int64_t step) {
  if (!prepared_) return;
  absl::MutexLock lock(&mu_);
  // A server that was killed after it had flushed may have rows of fewer steps than it remembers; the next one takes those steps again.
  if (step >= updates_.end_step()) updates_.Append(step, *prepared_);
  prepared_.reset();
  active_ = true;
}

void IdleRows::Decode(int64_t class_id, int64_t step, bool settled, const std::byte* record, float* weights, float* slots) const {
  codec_.Decode(record, weights, slots);
  if (active_) CatchUp(class_id, step, settled, weights, slots);
}

void IdleRows::CatchUp(int64_t class_id, int64_t step, bool settled, float* weights, float* momentum) const {
  const int dim = head_.embedding_dim;
  if (!settled) {
    const int64_t settling = updates_.SettlingStep(step);
    if (settling == IdleUpdates::kNotYet) {
      MapRow(updates_.Between(step, last_step()), dim, weights, momentum);
      return;
    }
    MapRow(updates_.Between(step, settling), dim, weights, momentum);
    codec_.RoundSettled(settling, class_id, weights);
    step = settling;
  }
  CatchUpSettled(step, weights, momentum);
}

void IdleRows::CatchUpSettled(int64_t step, float* weights, float* momentum) const {
  std::fill(momentum, momentum + head_.embedding_dim, 0.0f);
  MapRow(updates_.SinceSettling(step, last_step()), head_.embedding_dim, weights, momentum);
}

bool IdleRows::Settle(int64_t class_id, int64_t* step, std::byte* record) const {
  RowMap map;
  int64_t settling = IdleUpdates::kNotYet;
  {
    absl::ReaderMutexLock lock(&mu_);
    if (updates_.empty()) return false;
    settling = updates_.SettlingStep(*step);
    if (settling == IdleUpdates::kNotYet) return false;
    map = updates_.Between(*step, settling);
  }
  std::vector<float> row(2 * int64_t{head_.embedding_dim});
  float* const weights = row.data();
  float* const momentum = weights + head_.embedding_dim;
  codec_.Decode(record, weights, momentum);
  MapRow(map, head_.embedding_dim, weights, momentum);
  codec_.RoundSettled(settling, class_id, weights);
  codec_.EncodeNearest(weights, nullptr, record);
  *step = settling;
  return true;
}

std::string IdleRows::Serialize() const {
  storage::v1::IdleUpdates message;
  message.set_first_step(updates_.first_step());
  for (const SgdStep& step : updates_.steps()) {
    const auto is_same = [&step](const storage::v1::IdleUpdates::Run& run) {
      return run.momentum() == step.momentum && run.coupled_decay() == step.coupled_decay && run.decoupled_decay() == step.decoupled_decay;
    };
    if (message.runs_size() == 0 || !is_same(message.runs(message.runs_size() - 1))) {
      storage::v1::IdleUpdates::Run* run = message.add_runs();
      run->set_momentum(step.momentum);
      run->set_coupled_decay(step.coupled_decay);
      run->set_decoupled_decay(step.decoupled_decay);
    }
    storage::v1::IdleUpdates::Run* run = message.mutable_runs(message.runs_size() - 1);
    run->set_step_count(run->step_count() + 1);
    message.add_rates(step.rate);
  }
  return message.SerializeAsString();
}

absl::Status IdleRows::Restore(absl::string_view bytes) {
  const auto damaged = [this](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("head '", head_.name, "': what its steps did to idle rows is damaged: ", what));
  };
  storage::v1::IdleUpdates message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return damaged("not a message");
  std::vector<SgdStep> steps;
  for (const storage::v1::IdleUpdates::Run& run : message.runs()) {
    if (run.step_count() < 1 || run.step_count() > message.rates_size() - static_cast<int64_t>(steps.size())) {
      return damaged(absl::StrCat(message.rates_size(), " rates do not fit a run of ", run.step_count(), " steps"));
    }
    for (int64_t i = 0; i < run.step_count(); ++i) {
      steps.push_back({run.momentum(), run.coupled_decay(), run.decoupled_decay(), message.rates(static_cast<int>(steps.size()))});
    }
  }
  if (static_cast<int64_t>(steps.size()) != message.rates_size()) return damaged(absl::StrCat("no run has rate ", steps.size()));
  absl::MutexLock lock(&mu_);
  updates_.Restore(message.first_step(), steps);
  active_ = !updates_.empty();
  return absl::OkStatus();
}

}  // namespace myriad
