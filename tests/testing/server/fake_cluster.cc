#include "tests/testing/server/fake_cluster.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace myriad {

class FakeCluster::Peers : public PeerClient {
 public:
  Peers(FakeCluster* cluster, int self) : cluster_(cluster), self_(self) {}

  void Vote(int shard, const Ballot& ballot, absl::Duration, OutcomeCallback done) override {
    auto pending = std::make_shared<Pending>();
    pending->from = shard;
    pending->to = self_;
    pending->done = std::move(done);
    cluster_->pending_.push_back(pending);
    cluster_->executor_.Run([cluster = cluster_, pending, ballot] {
      if (!cluster->Reaches(pending->from, pending->to)) return cluster->Deliver(pending);
      cluster->nodes_[pending->from].reducer->Vote(ballot, [cluster, pending](StepOutcome outcome) {
        pending->outcome = std::move(outcome);
        if (cluster->held_.count({pending->from, pending->to}) == 0) cluster->Deliver(pending);
      });
    });
  }

  void GetOutcome(int shard, const VoteKey& key, int, absl::Duration, OutcomeCallback done) override {
    cluster_->executor_.Run([cluster = cluster_, self = self_, shard, key, done = std::move(done)] {
      if (cluster->down_[self]) return;
      if (!cluster->Reaches(self, shard)) return done(absl::UnavailableError("down"));
      const Node& node = cluster->nodes_[shard];
      done((key.evaluate ? node.evaluate : node.train)->GetOutcome(key));
    });
  }

  void CheckHead(int shard, int64_t, absl::Duration, std::function<void(absl::Status)> done) override {
    cluster_->executor_.Run([cluster = cluster_, self = self_, shard, done = std::move(done)] {
      if (cluster->down_[self]) return;
      done(cluster->Reaches(self, shard) ? absl::OkStatus() : absl::UnavailableError("down"));
    });
  }

  std::string NameOf(int shard) const override { return absl::StrCat("shard ", shard); }

 private:
  FakeCluster* const cluster_;
  const int self_;
};

FakeCluster::FakeCluster(const Options& options) : options_(options), nodes_(options.shards), down_(options.shards, false) {
  for (int shard = 0; shard < options.shards; ++shard) {
    Node& node = nodes_[shard];
    auto peers = std::make_shared<Peers>(this, shard);
    node.log = std::make_shared<FakeStepLog>();
    node.evaluation_log = std::make_shared<FakeStepLog>();
    node.gate = std::make_shared<RowGate>();
    Reducer::Options reducer;
    reducer.shard_count = options.shards;
    reducer.own_shard = shard;
    reducer.shard_wait = options.shard_wait;
    reducer.vote_wait = options.step_deadline + options.shard_wait;
    node.reducer = std::make_shared<Reducer>(reducer, &timer_, peers);
    auto exchange =
        std::make_shared<VoteExchange>(VoteExchange::Options{options.shards, shard, options.shard_wait}, node.reducer, &timer_, peers);
    StepEngine::Options engine;
    engine.head = "test";
    engine.incarnation = 1;
    engine.rank_count = options.ranks;
    engine.own_shard = shard;
    engine.step_deadline = options.step_deadline;
    const auto strand = std::make_shared<Strand>(&executor_);
    engine.evaluate = true;
    node.evaluate =
        std::make_shared<StepEngine>(engine, std::make_unique<FakeStepWork>(node.evaluation_log), strand, &timer_, nullptr, exchange);
    engine.evaluate = false;
    engine.on_commit = [reducer = node.reducer, evaluate = node.evaluate](int64_t step) {
      reducer->ForgetBefore(step);
      evaluate->StartAt(step + 1);
    };
    engine.on_torn = [&node](const absl::Status& reason) { node.torn = reason; };
    node.train = std::make_shared<StepEngine>(engine, std::make_unique<FakeStepWork>(node.log), strand, &timer_, node.gate, exchange);
  }
}

FakeCluster::~FakeCluster() {
  for (Node& node : nodes_) {
    node.evaluate->Shutdown(absl::UnavailableError("stopping"));
    node.train->Shutdown(absl::UnavailableError("stopping"));
    node.reducer->Close(absl::UnavailableError("stopping"));
  }
  RunAll();
}

std::shared_ptr<FakeAnswer> FakeCluster::Send(int shard, const Call& call) {
  auto answer = std::make_shared<FakeAnswer>();
  if (down_[shard]) {
    answer->result = absl::UnavailableError("down");
    return answer;
  }
  StepCall step;
  step.step = call.step;
  step.attempt = call.attempt;
  step.phase = call.phase;
  step.phase_count = call.phase_count;
  step.rank = call.rank;
  step.has_learning_rate = true;
  step.learning_rate = call.learning_rate;
  step.digest = Digester().Add(int64_t{call.rank}).Add(int64_t{call.phase}).Add(absl::string_view(call.data)).Finish();
  step.invalid = call.invalid;
  step.part = HeadStepPart();
  step.done = [this, shard, answer](absl::StatusOr<std::shared_ptr<const RankReply>> result) {
    if (down_[shard]) return;
    if (answer->answered()) std::abort();  // A call is answered once.
    answer->result = std::move(result);
  };
  (call.evaluate ? nodes_[shard].evaluate : nodes_[shard].train)->Call(std::move(step));
  return answer;
}

std::vector<std::shared_ptr<FakeAnswer>> FakeCluster::SendAll(Call call) {
  std::vector<std::shared_ptr<FakeAnswer>> answers;
  for (int shard = 0; shard < options_.shards; ++shard) {
    for (call.rank = 0; call.rank < options_.ranks; ++call.rank) answers.push_back(Send(shard, call));
  }
  RunAll();
  return answers;
}

void FakeCluster::Deliver(const std::shared_ptr<Pending>& pending) {
  if (pending->ended) return;
  pending->ended = true;
  executor_.Run([this, pending] {
    if (down_[pending->to]) return;
    if (!Reaches(pending->from, pending->to) || !pending->outcome) {
      pending->done(absl::UnavailableError("down"));
    } else {
      pending->done(*pending->outcome);
    }
  });
}

void FakeCluster::Kill(int shard) {
  down_[shard] = true;
  for (const std::shared_ptr<Pending>& pending : pending_) {
    if (pending->from == shard) Deliver(pending);
  }
}

void FakeCluster::Cut(int a, int b) {
  cut_.insert({a, b});
  cut_.insert({b, a});
  for (const std::shared_ptr<Pending>& pending : pending_) {
    if (!Reaches(pending->from, pending->to)) Deliver(pending);
  }
}

void FakeCluster::RestoreAnswers(int from, int to) {
  held_.erase({from, to});
  for (const std::shared_ptr<Pending>& pending : pending_) {
    if (pending->from == from && pending->to == to && pending->outcome) Deliver(pending);
  }
}

}  // namespace myriad
