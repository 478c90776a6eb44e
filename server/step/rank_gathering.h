#ifndef MYRIAD_SERVER_STEP_RANK_GATHERING_H_
#define MYRIAD_SERVER_STEP_RANK_GATHERING_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/step/digest.h"
#include "server/step/step_work.h"

namespace myriad {

// The calls of all ranks for one phase of one attempt at a step: who has come, with what, and who waits for an answer. Thread-compatible.
class RankGathering {
 public:
  // Answers that are to be given once no lock is held.
  using Answers = std::vector<std::function<void()>>;

  explicit RankGathering(int rank_count) : seats_(rank_count) {}

  int arrived() const { return arrived_; }
  bool complete() const { return arrived_ == static_cast<int>(seats_.size()); }
  bool answered() const { return answered_; }
  double learning_rate() const { return learning_rate_.value_or(0); }
  // Not OK once a rank has brought what refuses the step.
  const absl::Status& refusal() const { return refusal_; }
  std::vector<int32_t> MissingRanks() const;

  // Takes a call: seats it, joins it to the rank's earlier equal one, answers it if the phase is answered, or refuses it alone (other data
  // under the same key: FAILED_PRECONDITION). `what` names the phase in messages. Requires: call.rank in range.
  void Add(StepCall call, const std::string& what, Answers* answers);

  // For StepWork::Phase. Requires: complete().
  std::vector<const RankPart*> parts() const;
  // Over the ranks' digests in rank order.
  void AddTo(Digester* digester) const;

  // Gives every rank its reply and keeps the replies for repeats; forgets the parts. Requires: complete(), one reply a rank.
  void Answer(std::vector<RankReply> replies, Answers* answers);
  // Gives all that wait `status`, and later repeats too. Forgets the parts.
  void Refuse(const absl::Status& status, Answers* answers);
  // Forgets the replies, which will not be asked for again.
  void DropReplies();

 private:
  struct Seat {
    bool taken = false;
    Digest digest;
    std::unique_ptr<RankPart> part;
    std::vector<StepDone> waiting;
    std::shared_ptr<const RankReply> reply;
  };

  std::vector<Seat> seats_;
  int arrived_ = 0;
  bool answered_ = false;
  absl::Status error_;  // What repeats get when there is no reply.
  absl::Status refusal_;
  std::optional<double> learning_rate_;
  int learning_rate_rank_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_RANK_GATHERING_H_
