#include "client/bench_check.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "absl/strings/str_cat.h"
#include "client/head_client.h"
#include "head/partitions.h"
#include "head/sampler.h"
#include "head/virtual_rows.h"

namespace myriad {
namespace {

constexpr int kDim = 24;
constexpr int kBatch = 12;
constexpr int kSteps = 3;
constexpr double kLearningRate = 0.1;
// Of float32 arithmetic over vectors of 24 and some 100 rows.
constexpr double kLossTolerance = 1e-5;
constexpr double kTensorTolerance = 2e-5;

struct Row {
  std::vector<double> weights;
  std::vector<double> momentum;
};

// One step of CosFace with SGD, by the formulas of head.proto and nothing clever.
struct PlainStep {
  double loss = 0.0;
  std::vector<double> embedding_gradients;  // B x D.
};

double Dot(const double* a, const double* b) {
  double sum = 0.0;
  for (int d = 0; d < kDim; ++d) sum += a[d] * b[d];
  return sum;
}

PlainStep RunPlainStep(const TrainingSpec& training, const std::vector<double>& x, const std::vector<int64_t>& labels,
                       const std::vector<int64_t>& class_ids, std::map<int64_t, Row>* rows) {
  const double scale = training.margin.scale;
  PlainStep step;
  step.embedding_gradients.assign(kBatch * kDim, 0.0);
  std::map<int64_t, std::vector<double>> row_gradients;
  for (int i = 0; i < kBatch; ++i) {
    const double* const xi = &x[i * kDim];
    const double x_norm = std::sqrt(Dot(xi, xi));
    std::vector<double> logits;
    double sum = 0.0;
    for (int64_t id : class_ids) {
      const std::vector<double>& w = (*rows)[id].weights;
      const double cosine = Dot(xi, w.data()) / x_norm / std::sqrt(Dot(w.data(), w.data()));
      logits.push_back(scale * (id == labels[i] ? cosine - training.margin.margin : cosine));
      sum += std::exp(logits.back());
    }
    for (size_t j = 0; j < class_ids.size(); ++j) {
      const bool target = class_ids[j] == labels[i];
      if (target) step.loss += (std::log(sum) - logits[j]) / kBatch;
      const std::vector<double>& w = (*rows)[class_ids[j]].weights;
      const double w_norm = std::sqrt(Dot(w.data(), w.data()));
      const double cosine = Dot(xi, w.data()) / x_norm / w_norm;
      const double dcosine = scale * (std::exp(logits[j]) / sum - (target ? 1.0 : 0.0)) / kBatch;
      std::vector<double>& dw = row_gradients.try_emplace(class_ids[j], std::vector<double>(kDim, 0.0)).first->second;
      for (int d = 0; d < kDim; ++d) {
        step.embedding_gradients[i * kDim + d] += dcosine * (w[d] / w_norm - cosine * xi[d] / x_norm) / x_norm;
        dw[d] += dcosine * (xi[d] / x_norm - cosine * w[d] / w_norm) / w_norm;
      }
    }
  }
  for (const auto& [id, dw] : row_gradients) {
    Row& row = (*rows)[id];
    for (int d = 0; d < kDim; ++d) {
      row.momentum[d] = training.optimizer.momentum * row.momentum[d] + dw[d] + training.optimizer.weight_decay * row.weights[d];
      row.weights[d] -= kLearningRate * row.momentum[d];
    }
  }
  return step;
}

// Largest difference, relative to the largest expected element.
double RelativeDifference(const at::Tensor& actual, const std::vector<double>& expected) {
  const at::Tensor plain = at::from_blob(const_cast<double*>(expected.data()), {static_cast<int64_t>(expected.size())}, at::kDouble);
  return ((actual.flatten().to(at::kDouble) - plain).abs().max() / plain.abs().max()).item<double>();
}

absl::Status Differs(int step, const std::string& what, double difference) {
  return absl::InternalError(absl::StrCat("the check before the benchmark failed: after small step ", step, " ", what,
                                          " differs from plain float64 loops by ", difference, " of its largest value"));
}

}  // namespace

absl::Status CheckSmallSteps(const std::vector<std::string>& shard_addresses, Placement placement) {
  HeadClient::Options options;
  options.head.name = "bench-check";
  options.head.class_count = 1000;
  options.head.embedding_dim = kDim;
  options.head.seed = 11;
  options.training.sampler.sample_count = 100;
  options.training.sampler.seed = 5;
  options.training.placement = placement;
  options.shard_addresses = shard_addresses;
  absl::StatusOr<std::unique_ptr<HeadClient>> created = HeadClient::Create(options);
  if (!created.ok()) return created.status();
  HeadClient& client = **created;
  absl::StatusOr<int64_t> incarnation = client.MintIncarnation();
  if (!incarnation.ok()) return incarnation.status();
  absl::StatusOr<int64_t> first_step = client.Open(*incarnation);
  if (!first_step.ok()) return first_step.status();

  const Partitions partitions(options.head.class_count, options.head.seed, options.head.partition_count);
  const int shard_count = static_cast<int>(shard_addresses.size());
  std::map<int64_t, Row> rows;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<int64_t> labels(kBatch);
    for (int i = 0; i < kBatch; ++i) labels[i] = (i * 331 + step * 77) % options.head.class_count;
    // Neighbours are alike, so that some logits are large.
    const at::Tensor x = at::sin(at::arange(kBatch * kDim, at::kFloat) * 0.37 * (step + 1)).view({kBatch, kDim}).contiguous();
    std::vector<int64_t> class_ids;
    for (int k = 0; k < shard_count; ++k) {
      const StepRows drawn = DrawStepRows(partitions, options.training.sampler, *first_step + step, k, shard_count, labels);
      class_ids.insert(class_ids.end(), drawn.class_ids.begin(), drawn.class_ids.end());
    }
    std::vector<float> fresh(kDim);
    for (int64_t id : class_ids) {
      if (rows.count(id) > 0) continue;
      FillVirtualRow(options.head, id, fresh.data());
      rows[id] = {std::vector<double>(fresh.begin(), fresh.end()), std::vector<double>(kDim, 0.0)};
    }
    const at::Tensor x_double = x.to(at::kDouble);
    const std::vector<double> x_plain(x_double.const_data_ptr<double>(), x_double.const_data_ptr<double>() + x_double.numel());
    const PlainStep expected = RunPlainStep(options.training, x_plain, labels, class_ids, &rows);

    StepInput input;
    input.step = *first_step + step;
    input.learning_rate = kLearningRate;
    input.embeddings = x;
    input.labels = labels;
    absl::StatusOr<StepResult> actual = client.Step(input);
    if (!actual.ok()) return actual.status();
    if (actual->row_count != static_cast<int64_t>(class_ids.size())) {
      return absl::InternalError(absl::StrCat("the check before the benchmark failed: small step ", step, " had ", actual->row_count,
                                              " rows where ", class_ids.size(), " were expected"));
    }
    // Negated comparisons: a NaN fails.
    const double loss_difference = std::abs(actual->loss - expected.loss) / std::abs(expected.loss);
    if (!(loss_difference <= kLossTolerance)) return Differs(step, "the loss", loss_difference);
    const double gradient_difference = RelativeDifference(actual->embedding_gradients, expected.embedding_gradients);
    if (!(gradient_difference <= kTensorTolerance)) return Differs(step, "dX", gradient_difference);
    std::vector<double> expected_rows;
    for (int64_t id : class_ids) expected_rows.insert(expected_rows.end(), rows[id].weights.begin(), rows[id].weights.end());
    absl::StatusOr<at::Tensor> centers = client.FetchCenters(class_ids, nullptr);
    if (!centers.ok()) return centers.status();
    const double row_difference = RelativeDifference(*centers, expected_rows);
    if (!(row_difference <= kTensorTolerance)) return Differs(step, "W", row_difference);
  }
  return absl::OkStatus();
}

}  // namespace myriad
