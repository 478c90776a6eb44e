#include "worker/training_step.h"

#include <cmath>
#include <future>
#include <optional>
#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "proto/wire/status.h"
#include "worker/autocast.h"
#include "worker/peer_watch.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

// Adds a span of the time that it lives to the trace, and the time to a figure if there is one.
class Timed {
 public:
  Timed(const char* name, int track, int64_t step, Trace* trace, double* seconds = nullptr)
      : name_(name), track_(track), step_(step), trace_(trace), seconds_(seconds) {}
  ~Timed() {
    const int64_t end = Trace::Now();
    if (seconds_ != nullptr) *seconds_ += static_cast<double>(end - start_) * 1e-9;
    if (trace_ != nullptr) trace_->Add({name_, track_, start_, end, step_, 0});
  }

 private:
  const char* const name_;
  const int track_;
  const int64_t step_;
  Trace* const trace_;
  double* const seconds_;
  const int64_t start_ = Trace::Now();
};

// Which samples of a range belong to a head, and their labels.
struct Selection {
  std::vector<int64_t> rows;  // From the start of the range.
  std::vector<int64_t> labels;
};

Selection Select(const StepLabels& batch, int head, int64_t first, int64_t last) {
  Selection selection;
  for (int64_t i = first; i < last; ++i) {
    if (batch.heads[i] != head) continue;
    selection.rows.push_back(i - first);
    selection.labels.push_back(batch.labels[i]);
  }
  return selection;
}

at::Tensor IndexTensor(const std::vector<int64_t>& rows, at::Device device) {
  at::Tensor index = at::empty({static_cast<int64_t>(rows.size())}, at::kLong);
  std::copy(rows.begin(), rows.end(), index.mutable_data_ptr<int64_t>());
  return index.to(device);
}

// One chunk's forward pass: images first .. last - 1, or a black image for an empty chunk, so that every rank takes part in the reduction.
absl::StatusOr<at::Tensor> Embed(const StepParts& parts, const StepOptions& options, const StepBatch& batch, int64_t first, int64_t last) {
  parts.backbone->SetTraining(last - first >= 2);
  at::Tensor images;
  absl::Status status = GuardTorch("images of a chunk", [&] {
    if (first < last) {
      images = batch.images.narrow(0, first, last - first).to(options.device);
    } else {
      std::vector<int64_t> shape = batch.images.sizes().vec();
      shape[0] = 1;
      images = at::zeros(shape, at::TensorOptions(options.device).dtype(at::kFloat));
    }
  });
  if (!status.ok()) return status;
  Bfloat16Autocast autocast(options.bfloat16, options.device.type());
  return parts.backbone->Forward(images);
}

// What all heads say about one chunk: dX of its embeddings, weighted, and the figures.
class HeadCalls {
 public:
  HeadCalls(const StepParts& parts, const StepOptions& options, const StepBatch& batch, int64_t step, double learning_rate,
            StepFigures* figures)
      : parts_(parts), options_(options), batch_(batch), step_(step), learning_rate_(learning_rate), figures_(figures) {}

  // `embeddings` are detached: the images first .. last - 1.
  absl::StatusOr<at::Tensor> Run(int chunk, const at::Tensor& embeddings, int64_t first, int64_t last) {
    at::Tensor gradients = parts_.heads.size() == 1 ? at::Tensor() : at::zeros_like(embeddings);
    for (size_t h = 0; h < parts_.heads.size(); ++h) {
      const StepHead& head = parts_.heads[h];
      const Selection chosen = Select(batch_, static_cast<int>(h), first, last);
      const Selection all = chunk == 0 && options_.accumulation > 1
                                ? Select(batch_, static_cast<int>(h), 0, static_cast<int64_t>(batch_.labels.size()))
                                : Selection();
      std::vector<std::vector<int64_t>> coming;
      if (chunk == 0) {
        for (const StepLabels& next : batch_.coming) {
          coming.push_back(Select(next, static_cast<int>(h), 0, static_cast<int64_t>(next.labels.size())).labels);
        }
      }
      StepInput input;
      input.step = head.first_step + step_;
      input.chunk = chunk;
      input.chunk_count = options_.accumulation;
      input.learning_rate = learning_rate_;
      const bool whole = static_cast<int64_t>(chosen.rows.size()) == embeddings.size(0);
      at::Tensor index;
      if (!whole) index = IndexTensor(chosen.rows, embeddings.device());
      input.embeddings = whole ? embeddings : embeddings.index_select(0, index);
      input.labels = chosen.labels;
      input.step_labels = all.labels;
      input.coming_labels = coming;
      absl::StatusOr<StepResult> result = [&] {
        Timed timed("head step", Trace::kHeadTrack, step_, parts_.trace);
        return head.client->Step(input);
      }();
      if (!result.ok()) {
        return Annotate(PeerLostIfShardIs(result.status()), absl::StrCat("head ", head.name, ", step ", input.step));
      }
      Count(head, *result, &figures_->heads[h]);
      at::Tensor share = result->embedding_gradients;
      if (head.loss_weight != 1.0) share = share * head.loss_weight;
      if (whole) {
        gradients = share;
      } else if (parts_.heads.size() == 1) {
        gradients = at::zeros_like(embeddings).index_copy_(0, index, share);
      } else {
        gradients.index_copy_(0, index, share);
      }
    }
    return gradients;
  }

 private:
  void Count(const StepHead& head, const StepResult& result, HeadFigures* total) {
    total->loss += result.loss;
    total->sample_count += result.sample_count;
    total->target_count += result.target_count;
    total->target_cosine_sum += result.target_cosine_sum;
    total->row_count = result.row_count;
    total->degenerate_count += result.degenerate_count;
    total->row_sources.Add(result.row_sources);
    figures_->loss += head.loss_weight * result.loss;
    figures_->wire_bytes += result.wire_bytes;
  }

  const StepParts& parts_;
  const StepOptions& options_;
  const StepBatch& batch_;
  const int64_t step_;
  const double learning_rate_;
  StepFigures* const figures_;
};

}  // namespace

absl::StatusOr<StepFigures> TrainingStep(const StepParts& parts, const StepOptions& options, const StepBatch& batch, int64_t step,
                                         double learning_rate) {
  StepFigures figures;
  figures.heads.resize(parts.heads.size());
  absl::Status status = parts.reducer->BeginStep(step);
  if (!status.ok()) return status;

  HeadCalls heads(parts, options, batch, step, learning_rate, &figures);
  // A chunk whose embeddings the heads have.
  struct Sent {
    int chunk;
    at::Tensor embeddings;
    std::future<absl::StatusOr<at::Tensor>> gradients;
  };
  const auto send = [&](int chunk, const at::Tensor& embeddings, int64_t first, int64_t last) {
    // The call of a last chunk has nothing to run beside.
    const std::launch how = chunk + 1 < options.accumulation ? std::launch::async : std::launch::deferred;
    return Sent{chunk, embeddings, std::async(how, [&heads, chunk, embeddings, first, last]() -> absl::StatusOr<at::Tensor> {
                  absl::StatusOr<at::Tensor> gradients = absl::InternalError("no call was made");
                  const absl::Status status = GuardTorch("head step", [&] {
                    // The black image of an empty chunk is no sample.
                    gradients = heads.Run(chunk, embeddings.detach().narrow(0, 0, last - first), first, last);
                    if (gradients.ok() && first == last) gradients = at::zeros_like(embeddings);
                  });
                  return status.ok() ? gradients : status;
                })};
  };
  const auto finish = [&](Sent sent) -> absl::Status {
    absl::StatusOr<at::Tensor> gradients = [&] {
      Timed timed("wait for the heads", Trace::kWorkerTrack, step, parts.trace, &figures.wait_head_seconds);
      return sent.gradients.get();
    }();
    if (!gradients.ok()) return gradients.status();
    const bool last_chunk = sent.chunk + 1 == options.accumulation;
    if (last_chunk) {
      // Between the head calls, which a rank that asks for a stop makes after it has asked, and the reduction, which no rank leaves before
      // all are here: every rank sees the same answer.
      absl::StatusOr<bool> stop = parts.collectives->StopRequested();
      if (!stop.ok()) return stop.status();
      figures.stop_requested = *stop;
    }
    const int64_t start = Trace::Now();
    absl::Status reduced = parts.reducer->Backward(sent.embeddings, *gradients, last_chunk);
    figures.backward_seconds += static_cast<double>(Trace::Now() - start) * 1e-9;
    return reduced;
  };

  // The shards work on one chunk while the backbone runs the next one forward.
  const int64_t count = batch.labels.size();
  std::optional<Sent> waiting;
  for (int chunk = 0; chunk < options.accumulation; ++chunk) {
    const int64_t first = count * chunk / options.accumulation;
    const int64_t last = count * (chunk + 1) / options.accumulation;
    absl::StatusOr<at::Tensor> embeddings = [&] {
      Timed timed("forward", Trace::kWorkerTrack, step, parts.trace, &figures.forward_seconds);
      return Embed(parts, options, batch, first, last);
    }();
    if (!embeddings.ok()) return embeddings.status();
    if (waiting.has_value()) {
      status = finish(*std::exchange(waiting, std::nullopt));
      if (!status.ok()) return status;
    }
    waiting = send(chunk, *embeddings, first, last);
  }
  status = finish(*std::move(waiting));
  if (!status.ok()) return status;

  {
    Timed timed("optimizer", Trace::kWorkerTrack, step, parts.trace, &figures.optimizer_seconds);
    if (std::isfinite(options.clip_norm)) {
      absl::StatusOr<double> norm = ClipGradients(parts.parameters, options.clip_norm);
      if (!norm.ok()) return norm.status();
      figures.gradient_norm = *norm;
    }
    status = parts.optimizer->Step(learning_rate);
  }
  if (!status.ok()) return status;
  return figures;
}

}  // namespace myriad
