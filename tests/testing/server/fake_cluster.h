#ifndef MYRIAD_TESTS_TESTING_SERVER_FAKE_CLUSTER_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAKE_CLUSTER_H_

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/step/step_engine.h"
#include "tests/testing/server/fake_executor.h"
#include "tests/testing/server/fake_step_work.h"
#include "tests/testing/server/fake_timer.h"

namespace myriad {

// What a call got: nothing yet, or a status and perhaps a reply.
struct FakeAnswer {
  std::optional<absl::StatusOr<std::shared_ptr<const RankReply>>> result;

  bool answered() const { return result.has_value(); }
  absl::Status status() const { return answered() ? result->status() : absl::UnknownError("no answer yet"); }
  const RankReply* reply() const { return result->value().get(); }
};

// The protocol of K shards without sockets, threads or a clock: engines for steps and evaluations with FakeStepWork, their reducers and
// vote exchanges, put together as a TrainingSession does, over links that a test cuts. Thread-compatible.
class FakeCluster {
 public:
  struct Options {
    int shards = 3;
    int ranks = 1;
    absl::Duration step_deadline = absl::Seconds(20);
    absl::Duration shard_wait = absl::Seconds(10);
  };
  struct Call {
    Call(int64_t step, int rank = 0, int attempt = 0, std::string data = "data")
        : step(step), rank(rank), attempt(attempt), data(std::move(data)) {}
    int64_t step;
    int rank;
    int attempt;
    std::string data;
    bool evaluate = false;
    int phase = 0;
    int phase_count = 1;
    double learning_rate = 0.1;
    absl::Status invalid;
  };

  explicit FakeCluster(const Options& options);
  // Ends what still waits, as a server that stops does.
  ~FakeCluster();

  // Sends a call without letting anything run.
  std::shared_ptr<FakeAnswer> Send(int shard, const Call& call);
  // Sends the call of every rank to every shard, lets all run and returns the answers, shard by shard, rank by rank.
  std::vector<std::shared_ptr<FakeAnswer>> SendAll(Call call);

  void RunAll() { executor_.RunAll(); }
  bool RunAny(std::mt19937& rng) { return executor_.RunAny(rng); }
  void Advance(absl::Duration duration) {
    RunAll();
    timer_.Advance(duration, [this] { RunAll(); });
  }

  // The shard is gone: calls to it, those on their way too, are UNAVAILABLE; what it would send or answer is lost.
  void Kill(int shard);
  bool is_down(int shard) const { return down_[shard]; }
  // Answers of `from` to the votes of `to` are held back until it is killed or the link restored.
  void HoldAnswers(int from, int to) { held_.insert({from, to}); }
  void RestoreAnswers(int from, int to);
  // The two shards do not reach each other any more.
  void Cut(int a, int b);

  StepEngine& engine(int shard) { return *nodes_[shard].train; }
  FakeStepLog& log(int shard) { return *nodes_[shard].log; }
  FakeStepLog& evaluation_log(int shard) { return *nodes_[shard].evaluation_log; }
  Reducer& reducer(int shard) { return *nodes_[shard].reducer; }
  // What Options::on_torn of the shard's engine was told; OK if it was not.
  absl::Status torn(int shard) const { return nodes_[shard].torn; }
  RowGate& gate(int shard) { return *nodes_[shard].gate; }
  FakeTimer& timer() { return timer_; }

 private:
  class Peers;
  struct Node {
    std::shared_ptr<FakeStepLog> log;
    std::shared_ptr<FakeStepLog> evaluation_log;
    std::shared_ptr<RowGate> gate;
    std::shared_ptr<Reducer> reducer;
    std::shared_ptr<StepEngine> train;
    std::shared_ptr<StepEngine> evaluate;
    absl::Status torn;
  };
  // A vote on its way back.
  struct Pending {
    int from;
    int to;
    std::optional<StepOutcome> outcome;
    PeerClient::OutcomeCallback done;
    bool ended = false;
  };
  void Deliver(const std::shared_ptr<Pending>& pending);
  bool Reaches(int a, int b) const { return !down_[a] && !down_[b] && cut_.count({a, b}) == 0; }

  const Options options_;
  FakeTimer timer_;
  FakeExecutor executor_;
  std::vector<Node> nodes_;
  std::vector<bool> down_;
  std::set<std::pair<int, int>> held_;
  std::set<std::pair<int, int>> cut_;
  std::vector<std::shared_ptr<Pending>> pending_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAKE_CLUSTER_H_
