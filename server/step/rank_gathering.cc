#include "server/step/rank_gathering.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

void Tell(StepDone done, absl::StatusOr<std::shared_ptr<const RankReply>> result, RankGathering::Answers* answers) {
  answers->push_back([done = std::move(done), result = std::move(result)] { done(result); });
}

}  // namespace

std::vector<int32_t> RankGathering::MissingRanks() const {
  std::vector<int32_t> missing;
  for (size_t rank = 0; rank < seats_.size(); ++rank) {
    if (!seats_[rank].taken) missing.push_back(rank);
  }
  return missing;
}

void RankGathering::Add(StepCall call, const std::string& what, Answers* answers) {
  Seat& seat = seats_[call.rank];
  if (seat.taken && seat.digest != call.digest) {
    Tell(std::move(call.done),
         absl::FailedPreconditionError(absl::StrCat("rank ", call.rank, " has sent other data for ", what, " before")), answers);
    return;
  }
  if (answered_) {
    if (seat.reply != nullptr) {
      Tell(std::move(call.done), seat.reply, answers);
    } else {
      Tell(std::move(call.done),
           error_.ok() ? absl::FailedPreconditionError(absl::StrCat(what, " is over; its replies are not kept")) : error_, answers);
    }
    return;
  }
  seat.waiting.push_back(std::move(call.done));
  if (seat.taken) return;
  seat.taken = true;
  seat.digest = std::move(call.digest);
  seat.part = std::make_unique<RankPart>(std::move(call.part));
  ++arrived_;
  if (refusal_.ok() && !call.invalid.ok()) refusal_ = call.invalid;
  if (!call.has_learning_rate) return;
  if (!learning_rate_) {
    learning_rate_ = call.learning_rate;
    learning_rate_rank_ = call.rank;
  } else if (refusal_.ok() && *learning_rate_ != call.learning_rate) {
    refusal_ = absl::FailedPreconditionError(absl::StrCat(what, ": rank ", learning_rate_rank_, " sent learning rate ", *learning_rate_,
                                                          ", rank ", call.rank, " sent ", call.learning_rate));
  }
}

std::vector<const RankPart*> RankGathering::parts() const {
  std::vector<const RankPart*> parts;
  for (const Seat& seat : seats_) parts.push_back(seat.part.get());
  return parts;
}

void RankGathering::AddTo(Digester* digester) const {
  for (const Seat& seat : seats_) digester->Add(seat.digest);
}

void RankGathering::Answer(std::vector<RankReply> replies, Answers* answers) {
  answered_ = true;
  for (size_t rank = 0; rank < seats_.size(); ++rank) {
    Seat& seat = seats_[rank];
    seat.part.reset();
    seat.reply = std::make_shared<const RankReply>(std::move(replies[rank]));
    for (StepDone& done : seat.waiting) Tell(std::move(done), seat.reply, answers);
    seat.waiting.clear();
  }
}

void RankGathering::Refuse(const absl::Status& status, Answers* answers) {
  answered_ = true;
  error_ = status;
  for (Seat& seat : seats_) {
    seat.part.reset();
    for (StepDone& done : seat.waiting) Tell(std::move(done), status, answers);
    seat.waiting.clear();
  }
}

void RankGathering::DropReplies() {
  for (Seat& seat : seats_) seat.reply.reset();
}

}  // namespace myriad
