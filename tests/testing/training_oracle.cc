#include "tests/testing/training_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

namespace myriad {
namespace {

// A vector divided by its norm, and what a gradient needs on the way back. Norms below 1e-12 give zeros.
struct Unit {
  std::vector<double> direction;
  double norm = 0.0;
  bool degenerate = false;
};

template <typename T>
Unit Normalized(const T* values, int dim) {
  Unit unit;
  for (int d = 0; d < dim; ++d) unit.norm += static_cast<double>(values[d]) * static_cast<double>(values[d]);
  unit.norm = std::sqrt(unit.norm);
  unit.degenerate = unit.norm < 1e-12;
  for (int d = 0; d < dim; ++d) unit.direction.push_back(unit.degenerate ? 0.0 : static_cast<double>(values[d]) / unit.norm);
  return unit;
}

// out = (gradient - (gradient . unit) unit) / norm; zeros when degenerate.
void BackThroughNorm(const Unit& unit, const std::vector<double>& gradient, double* out) {
  double along = 0.0;
  for (size_t d = 0; d < gradient.size(); ++d) along += gradient[d] * unit.direction[d];
  for (size_t d = 0; d < gradient.size(); ++d) {
    out[d] = unit.degenerate ? 0.0 : (gradient[d] - along * unit.direction[d]) / unit.norm;
  }
}

// Logit of the sample's own class and its derivative by the cosine.
std::pair<double, double> TargetLogit(const MarginOptions& margin, double c) {
  const double s = margin.scale, m = margin.margin;
  if (margin.kind == MarginOptions::Kind::kCosFace) return {s * (c - m), s};
  if (margin.kind == MarginOptions::Kind::kArcFaceStraightThrough) {
    const double theta = std::acos(c > 1.0 ? 1.0 : c < -1.0 ? -1.0 : c);
    return {s * std::cos(theta + m), s};
  }
  const double pi = std::acos(-1.0);
  if (c <= std::cos(pi - m)) return {s * (c - m * std::sin(m)), s};
  if (1.0 - c * c <= 1e-6) return {s * (c * std::cos(m) - 1e-3 * std::sin(m)), s * std::cos(m)};
  const double theta = std::acos(c);
  return {s * std::cos(theta + m), s * std::sin(theta + m) / std::sin(theta)};
}

}  // namespace

TrainingOracle::TrainingOracle(int dim, const MarginOptions& margin, const OptimizerOptions& optimizer, InitialRow initial_row)
    : dim_(dim), margin_(margin), optimizer_(optimizer), initial_row_(std::move(initial_row)) {}

void TrainingOracle::SetRow(int64_t class_id, absl::Span<const float> weights, absl::Span<const float> slots) {
  Row& row = rows_[class_id];
  row.weights.assign(weights.begin(), weights.end());
  row.slots.assign(slots.begin(), slots.end());
  row.slots.resize(optimizer_.kind == OptimizerKind::kAdamW ? 2 * dim_ + 1 : dim_, 0.0);
}

const TrainingOracle::Row& TrainingOracle::RowOf(int64_t class_id) {
  const auto found = rows_.find(class_id);
  if (found != rows_.end()) return found->second;
  std::vector<float> weights(dim_);
  initial_row_(class_id, weights.data());
  SetRow(class_id, weights, {});
  return rows_[class_id];
}

TrainingOracle::Result TrainingOracle::Evaluate(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings,
                                                absl::Span<const int64_t> labels, std::vector<double>* row_gradients) {
  const size_t n = class_ids.size(), batch = labels.size();
  std::vector<Unit> rows;
  for (int64_t class_id : class_ids) rows.push_back(Normalized(RowOf(class_id).weights.data(), dim_));
  std::vector<std::vector<double>> row_direction_gradients(n, std::vector<double>(dim_, 0.0));

  Result result;
  result.embedding_gradients.resize(batch * dim_);
  double loss_sum = 0.0;
  for (size_t i = 0; i < batch; ++i) {
    const Unit embedding = Normalized(embeddings.data() + i * dim_, dim_);
    std::vector<double> logits(n), slopes(n);
    bool has_target = false;
    double target_logit = 0.0;
    double largest = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < n; ++j) {
      double cosine = 0.0;
      for (int d = 0; d < dim_; ++d) cosine += embedding.direction[d] * rows[j].direction[d];
      logits[j] = margin_.scale * cosine;
      slopes[j] = margin_.scale;
      if (class_ids[j] == labels[i]) {
        std::tie(logits[j], slopes[j]) = TargetLogit(margin_, cosine);
        has_target = true;
        target_logit = logits[j];
        result.target_cosine_sum += cosine;
      }
      largest = std::max(largest, logits[j]);
    }
    double z = 0.0;
    for (size_t j = 0; j < n; ++j) z += std::exp(logits[j] - largest);
    const double log_z = n == 0 ? -std::numeric_limits<double>::infinity() : largest + std::log(z);
    result.log_z.push_back(log_z);
    if (has_target) {
      loss_sum += log_z - target_logit;
      ++result.target_count;
    }
    std::vector<double> direction_gradient(dim_, 0.0);
    for (size_t j = 0; j < n; ++j) {
      const double probability = std::exp(logits[j] - log_z);
      const double by_logit = (probability - (class_ids[j] == labels[i] ? 1.0 : 0.0)) / static_cast<double>(batch);
      const double by_cosine = by_logit * slopes[j];
      for (int d = 0; d < dim_; ++d) {
        direction_gradient[d] += by_cosine * rows[j].direction[d];
        row_direction_gradients[j][d] += by_cosine * embedding.direction[d];
      }
    }
    BackThroughNorm(embedding, direction_gradient, result.embedding_gradients.data() + i * dim_);
  }
  if (result.target_count > 0) result.loss = loss_sum / static_cast<double>(result.target_count);
  if (row_gradients != nullptr) {
    row_gradients->resize(n * dim_);
    for (size_t j = 0; j < n; ++j) BackThroughNorm(rows[j], row_direction_gradients[j], row_gradients->data() + j * dim_);
  }
  return result;
}

TrainingOracle::Result TrainingOracle::Step(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings,
                                            absl::Span<const int64_t> labels, double learning_rate) {
  std::vector<double> gradients;
  Result result = Evaluate(class_ids, embeddings, labels, &gradients);
  for (size_t j = 0; j < class_ids.size(); ++j) {
    Move(learning_rate * optimizer_.rate_scale, gradients.data() + j * dim_, &rows_[class_ids[j]]);
  }
  if (optimizer_.idle_update == IdleUpdate::kExact) {
    const std::vector<double> none(dim_, 0.0);
    for (auto& [class_id, row] : rows_) {
      if (std::find(class_ids.begin(), class_ids.end(), class_id) != class_ids.end()) continue;
      Move(learning_rate * optimizer_.rate_scale, none.data(), &row);
    }
  }
  return result;
}

void TrainingOracle::Move(double rate, const double* gradient, Row* row) const {
  const OptimizerOptions& o = optimizer_;
  if (o.kind == OptimizerKind::kAdamW) row->slots[2 * dim_] += 1.0;
  for (int d = 0; d < dim_; ++d) {
    double& w = row->weights[d];
    const double g = gradient[d];
    switch (o.kind) {
      case OptimizerKind::kSgd: {
        double& v = row->slots[d];
        v = o.momentum * v + g + (o.decoupled_weight_decay ? 0.0 : o.weight_decay * w);
        w -= rate * (v + (o.decoupled_weight_decay ? o.weight_decay * w : 0.0));
        break;
      }
      case OptimizerKind::kAdamW: {
        double& m = row->slots[d];
        double& v = row->slots[dim_ + d];
        const double t = row->slots[2 * dim_];
        w -= rate * o.weight_decay * w;
        m = o.beta1 * m + (1.0 - o.beta1) * g;
        v = o.beta2 * v + (1.0 - o.beta2) * g * g;
        const double m_hat = m / (1.0 - std::pow(o.beta1, t)), v_hat = v / (1.0 - std::pow(o.beta2, t));
        w -= rate * m_hat / (std::sqrt(v_hat) + o.epsilon);
        break;
      }
      case OptimizerKind::kAdagrad: {
        double& sum = row->slots[d];
        const double h = g + o.weight_decay * w;
        sum += h * h;
        w -= rate * h / (std::sqrt(sum) + o.epsilon);
        break;
      }
    }
  }
}

}  // namespace myriad
