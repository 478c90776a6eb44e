#include "head/softmax_share.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "head/margin.h"
#include "head/reused_tensor.h"
#include "head/row_kernels.h"
#include "head/row_optimizer.h"
#include "head/softmax_passes.h"

namespace myriad {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// Bytes of a tile's rows, and of its logits, on the CPU: what one thread works on stays in its caches from one product to the next.
constexpr int64_t kCacheTileBytes = int64_t{2} << 20;

// No autograd, and no inference tensors, whose mode the compute threads would not share with the caller.
struct PlainTensors {
  c10::InferenceMode normal{false};
  at::NoGradGuard no_grad;
};

}  // namespace

// Tiles go to groups, contiguous ranges of about equal length, one group a thread. Each group has its own running maxima, sums and U,
// merged in the order of the groups: results depend on the number of threads, never on their timing.
struct SoftmaxShare::State {
  explicit State(const Options& o) : options(o), dim(o.embedding_dim) {}

  const Options options;
  const int64_t dim;
  std::unique_ptr<SoftmaxPasses> passes;

  // The rows of the step.
  at::Device device = at::kCPU;
  absl::Status rows_status = absl::FailedPreconditionError("no rows were set");
  int64_t n = 0;
  int64_t degenerate_rows = 0;
  ReusedTensor unit_rows_buffer, row_norm_buffer, scratch_buffer;
  at::Tensor unit_rows;         // n x D.
  at::Tensor row_inverse_norm;  // n.

  // The chunk of the last Forward.
  int64_t batch = 0;
  int64_t degenerate_embeddings = 0;
  ReusedTensor unit_embeddings_buffer, embedding_norm_buffer;
  at::Tensor unit_embeddings;         // B x D.
  at::Tensor embedding_inverse_norm;  // B.
  at::Tensor final_max;               // B.
  at::Tensor accumulated;             // U, B x D; a view of group 0's.
  // Targets by row, so that a tile's are a range.
  std::vector<int64_t> target_rows, target_samples;
  std::vector<int64_t> target_tile_rows;  // The same rows, counted from the start of their tiles.
  std::vector<double> target_cosines;
  std::vector<TargetLogit> target_logits;
  std::vector<double> target_factors;  // What EmbeddingGradients adds of each target.
  ReusedTensor log_z_buffer;
  at::Tensor log_z;  // B doubles on the CPU: of the last chunk that was merged.

  // Tiles.
  bool kept = false;
  int64_t tile_rows = 1, tile_count = 0, group_count = 1;
  ReusedTensor logits_buffer, tile_max_buffer, group_u_buffer, group_max_buffer, group_factor_buffer, group_sum_buffer, scaled_buffer,
      tile_gradient_buffer;
  at::Tensor logits;         // Kept: n x B. Else group_count x tile_rows x B.
  at::Tensor tile_max;       // Kept: tile_count x B, the maxima that each tile's exponentials refer to.
  at::Tensor group_u;        // group_count x B x D.
  at::Tensor group_max;      // group_count x B.
  at::Tensor group_factor;   // group_count x B.
  at::Tensor group_sum;      // group_count x B doubles.
  at::Tensor scaled;         // group_count x B x D: embeddings times coefficients.
  at::Tensor tile_gradient;  // group_count x tile_rows x D.

  // dLoss/du of the step. The last chunk's part stays pending until somebody needs it, so that Apply can go tile by tile.
  ReusedTensor row_gradients_buffer;
  at::Tensor row_gradients;  // n x D of the chunks before, if `summed`.
  bool summed = false;
  bool pending = false;
  at::Tensor pending_log_z;  // B doubles.
  double pending_factor = 0.0;
  std::vector<double> pending_target_factors;  // In the order of target_rows.

  at::TensorOptions Float() const { return at::TensorOptions().dtype(at::kFloat).device(device); }
  at::TensorOptions Double() const { return at::TensorOptions().dtype(at::kDouble).device(device); }

  absl::Status PrepareRows(int64_t count, at::Device on, int64_t scratch_floats);
  // A row of it for each thread.
  at::Tensor Scratch(int64_t floats) { return scratch_buffer.Get({std::max(1, at::get_num_threads()), floats}, at::kFloat); }
  void FinishRows(const SoftmaxPasses::Checked& checked);
  void PlanTiles();
  void ReserveChunk();
  void SetTargets(absl::Span<const int32_t> row_of_sample);

  at::Tensor LogZ(const MergedDenominators& merged) {
    std::copy_n(merged.log_z.begin(), batch, log_z.mutable_data_ptr<double>());
    return log_z.to(device);
  }
  // dz/dc of a class other than the sample's own, over the batch size.
  double Factor(int64_t batch_size) const { return batch_size == 0 ? 0.0 : options.margin.scale / static_cast<double>(batch_size); }
  // (p_iy - 1) (dz/dc)_i / B, in the order of target_rows.
  void SetTargetFactors(const MergedDenominators& merged, int64_t batch_size, std::vector<double>* factors) const {
    factors->resize(target_samples.size());
    for (size_t k = 0; k < factors->size(); ++k) {
      const double missing = std::expm1(target_logits[k].logit - merged.log_z[target_samples[k]]);
      (*factors)[k] = missing * target_logits[k].derivative / static_cast<double>(batch_size);
    }
  }

  int64_t TileBegin(int64_t tile) const { return tile * tile_rows; }
  int64_t TileSize(int64_t tile) const { return std::min(tile_rows, n - TileBegin(tile)); }
  int64_t GroupBegin(int64_t group) const { return group * tile_count / group_count; }
  at::Tensor TileLogits(int64_t group, int64_t tile) const {
    return kept ? logits.narrow(0, TileBegin(tile), TileSize(tile)) : logits[group].narrow(0, 0, TileSize(tile));
  }
  // The range of target_rows that lie in a tile.
  std::pair<size_t, size_t> TileTargets(int64_t tile) const {
    const auto first = std::lower_bound(target_rows.begin(), target_rows.end(), TileBegin(tile));
    const auto last = std::lower_bound(first, target_rows.end(), TileBegin(tile) + TileSize(tile));
    return {first - target_rows.begin(), last - target_rows.begin()};
  }

  // Calls visit(group, tile) for all tiles: groups in parallel on the CPU, a group's tiles in order.
  template <typename Visit>
  void ForEachTile(const Visit& visit) const {
    const auto visit_group = [&](int64_t group) {
      const PlainTensors guard;
      for (int64_t tile = GroupBegin(group); tile < GroupBegin(group + 1); ++tile) visit(group, tile);
    };
    if (!device.is_cpu()) {
      for (int64_t group = 0; group < group_count; ++group) visit_group(group);
      return;
    }
    at::parallel_for(0, group_count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) visit_group(group);
    });
  }

  // Cosines of a tile's classes with all samples; -inf at the samples' own classes.
  void MaskedCosines(int64_t tile, at::Tensor& out) const {
    at::mm_out(out, unit_rows.narrow(0, TileBegin(tile), TileSize(tile)), unit_embeddings.t());
    const auto [first, last] = TileTargets(tile);
    passes->Mask(out, absl::MakeConstSpan(target_tile_rows).subspan(first, last - first),
                 absl::MakeConstSpan(target_samples).subspan(first, last - first));
  }

  void ForwardTile(int64_t group, int64_t tile);
  at::Tensor MergeGroups();
  void AddPending(int64_t group, int64_t tile, bool accumulate, at::Tensor& out) const;
  at::Tensor TileGradient(int64_t group, int64_t tile) const;
  void SumPending();
};

absl::Status SoftmaxShare::State::PrepareRows(int64_t count, at::Device on, int64_t scratch_floats) {
  n = count;
  device = on;
  summed = pending = false;
  passes = device.is_cpu() && !options.plain_passes ? MakeFusedPasses() : MakePlainPasses();
  try {
    unit_rows = unit_rows_buffer.Get({n, dim}, Float());
    row_inverse_norm = row_norm_buffer.Get({n}, Float());
    Scratch(scratch_floats);
  } catch (const std::exception& e) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", n, " rows of ", dim, " floats: ", e.what()));
  }
  return absl::OkStatus();
}

void SoftmaxShare::State::FinishRows(const SoftmaxPasses::Checked& checked) {
  degenerate_rows = checked.degenerate_count;
  if (checked.first_not_finite >= 0) {
    rows_status =
        absl::InvalidArgumentError(absl::StrCat("row ", checked.first_not_finite, " of the step has a number that is not finite"));
  }
}

void SoftmaxShare::State::PlanTiles() {
  const int64_t logit_row_bytes = std::max<int64_t>(1, batch * 4);
  const int64_t threads = device.is_cpu() ? std::max(1, at::get_num_threads()) : 1;
  kept = n * logit_row_bytes <= options.tile_bytes;
  int64_t most = std::max<int64_t>(1, options.tile_bytes / logit_row_bytes);
  if (!kept) most = std::max<int64_t>(1, most / threads);
  if (device.is_cpu()) most = std::min(most, std::max<int64_t>(16, kCacheTileBytes / (4 * std::max(batch, dim))));
  tile_count = (n + most - 1) / most;
  // As many tiles for each thread, of about one length.
  if (n >= 64 * threads) tile_count = (tile_count + threads - 1) / threads * threads;
  tile_rows = tile_count == 0 ? 1 : (n + tile_count - 1) / tile_count;
  tile_count = (n + tile_rows - 1) / tile_rows;
  group_count = std::max<int64_t>(1, std::min(threads, tile_count));
}

void SoftmaxShare::State::ReserveChunk() {
  unit_embeddings = unit_embeddings_buffer.Get({batch, dim}, Float());
  embedding_inverse_norm = embedding_norm_buffer.Get({batch}, Float());
  if (kept) {
    logits = logits_buffer.Get({n, batch}, Float());
    tile_max = tile_max_buffer.Get({tile_count, batch}, Float());
  } else {
    logits = logits_buffer.Get({group_count, tile_rows, batch}, Float());
  }
  group_u = group_u_buffer.Get({group_count, batch, dim}, Float());
  group_max = group_max_buffer.Get({group_count, batch}, Float());
  group_factor = group_factor_buffer.Get({group_count, batch}, Float());
  group_sum = group_sum_buffer.Get({group_count, batch}, Double());
  scaled = scaled_buffer.Get({group_count, batch, dim}, Float());
  tile_gradient = tile_gradient_buffer.Get({group_count, tile_rows, dim}, Float());
  log_z = log_z_buffer.Get({batch}, at::TensorOptions().dtype(at::kDouble));
}

void SoftmaxShare::State::SetTargets(absl::Span<const int32_t> row_of_sample) {
  target_samples.clear();
  for (size_t i = 0; i < row_of_sample.size(); ++i) {
    if (row_of_sample[i] >= 0) target_samples.push_back(static_cast<int64_t>(i));
  }
  std::stable_sort(target_samples.begin(), target_samples.end(), [&](int64_t a, int64_t b) { return row_of_sample[a] < row_of_sample[b]; });
  target_rows.clear();
  target_tile_rows.clear();
  for (int64_t sample : target_samples) {
    target_rows.push_back(row_of_sample[sample]);
    target_tile_rows.push_back(row_of_sample[sample] % tile_rows);
  }
  target_factors.reserve(target_rows.size());
  pending_target_factors.reserve(target_rows.size());
  target_cosines = passes->Cosines(unit_rows, target_rows, unit_embeddings, target_samples);
  target_logits.clear();
  for (double cosine : target_cosines) target_logits.push_back(ApplyMargin(options.margin, cosine));
}

void SoftmaxShare::State::ForwardTile(int64_t group, int64_t tile) {
  at::Tensor exponentials = TileLogits(group, tile);
  at::Tensor u = group_u[group];
  at::Tensor max = group_max[group];
  at::Tensor factor = group_factor[group];
  at::Tensor sum = group_sum[group];
  MaskedCosines(tile, exponentials);
  const bool rescale = passes->RaiseMax(exponentials, options.margin.scale, max, factor);
  const bool first = tile == GroupBegin(group);
  if (rescale && !first) {
    sum.mul_(factor);
    u.mul_(factor.unsqueeze(1));
  }
  passes->Exponentiate(exponentials, options.margin.scale, max, sum);
  if (kept) tile_max[tile].copy_(max);
  const at::Tensor rows = unit_rows.narrow(0, TileBegin(tile), TileSize(tile));
  if (first) {
    at::mm_out(u, exponentials.t(), rows);
  } else {
    u.addmm_(exponentials.t(), rows);
  }
}

// Leaves the merged maxima in final_max and U in group 0; returns the merged sums.
at::Tensor SoftmaxShare::State::MergeGroups() {
  final_max = group_max.amax(0);
  const at::Tensor reference = final_max.to(at::kDouble);
  at::Tensor sum = at::zeros({batch}, Double());
  accumulated = group_u[0];
  for (int64_t group = 0; group < group_count; ++group) {
    at::Tensor factor = group_factor[group];
    passes->Coefficients(group_max[group], reference, 1.0, factor);
    sum.add_(group_sum[group] * factor);
    if (group == 0) {
      accumulated.mul_(factor.unsqueeze(1));
    } else {
      accumulated.addcmul_(group_u[group], factor.unsqueeze(1));
    }
  }
  return sum;
}

// out (a tile of dLoss/du) gains or becomes the pending chunk's part.
void SoftmaxShare::State::AddPending(int64_t group, int64_t tile, bool accumulate, at::Tensor& out) const {
  at::Tensor exponentials = TileLogits(group, tile);
  if (!kept) {
    MaskedCosines(tile, exponentials);
    at::Tensor unused_sum = group_sum[group];
    passes->Exponentiate(exponentials, options.margin.scale, final_max, unused_sum);
  }
  at::Tensor coefficients = group_factor[group];
  passes->Coefficients(kept ? tile_max[tile] : final_max, pending_log_z, pending_factor, coefficients);
  at::Tensor embeddings = scaled[group];
  passes->ScaleRows(coefficients, unit_embeddings, embeddings);
  if (accumulate) {
    out.addmm_(exponentials, embeddings);
  } else {
    at::mm_out(out, exponentials, embeddings);
  }
  const auto [first, last] = TileTargets(tile);
  passes->AddRows(absl::MakeConstSpan(pending_target_factors).subspan(first, last - first), unit_embeddings,
                  absl::MakeConstSpan(target_samples).subspan(first, last - first), out,
                  absl::MakeConstSpan(target_tile_rows).subspan(first, last - first));
}

// The step's dLoss/du of a tile. Where earlier chunks were summed, the pending one is added to them.
at::Tensor SoftmaxShare::State::TileGradient(int64_t group, int64_t tile) const {
  at::Tensor out = summed ? row_gradients.narrow(0, TileBegin(tile), TileSize(tile)) : tile_gradient[group].narrow(0, 0, TileSize(tile));
  if (pending) {
    AddPending(group, tile, /*accumulate=*/summed, out);
  } else if (!summed) {
    out.zero_();
  }
  return out;
}

void SoftmaxShare::State::SumPending() {
  if (!pending) return;
  if (!summed) row_gradients = row_gradients_buffer.Get({n, dim}, Float());
  ForEachTile([this](int64_t group, int64_t tile) {
    at::Tensor out = row_gradients.narrow(0, TileBegin(tile), TileSize(tile));
    AddPending(group, tile, /*accumulate=*/summed, out);
  });
  summed = true;
  pending = false;
}

SoftmaxShare::SoftmaxShare(const Options& options) : state_(std::make_unique<State>(options)) {}
SoftmaxShare::~SoftmaxShare() = default;

void SoftmaxShare::SetRows(const RowView& rows) {
  State& s = *state_;
  const PlainTensors guard;
  s.rows_status = s.PrepareRows(rows.count(), at::kCPU, rows.scratch_floats());
  if (!s.rows_status.ok()) return;
  at::Tensor scratch = s.Scratch(rows.scratch_floats());
  s.FinishRows(GatherAndNormalize(rows, scratch, s.unit_rows, s.row_inverse_norm));
}

void SoftmaxShare::SetRows(const at::Tensor& rows) {
  State& s = *state_;
  const PlainTensors guard;
  s.rows_status = s.PrepareRows(rows.size(0), rows.device(), /*scratch_floats=*/0);
  if (s.rows_status.ok()) s.FinishRows(s.passes->Normalize(rows.detach().contiguous(), s.unit_rows, s.row_inverse_norm));
}

int64_t SoftmaxShare::degenerate_row_count() const { return state_->degenerate_rows; }
int64_t SoftmaxShare::degenerate_embedding_count() const { return state_->degenerate_embeddings; }

absl::StatusOr<Denominators> SoftmaxShare::Forward(const at::Tensor& embeddings, absl::Span<const int32_t> target_rows) {
  State& s = *state_;
  if (!s.rows_status.ok()) return s.rows_status;
  if (embeddings.dim() != 2 || embeddings.size(1) != s.dim || embeddings.scalar_type() != at::kFloat || embeddings.device() != s.device) {
    return absl::InvalidArgumentError(absl::StrCat("embeddings must be a float32 matrix of width ", s.dim, " on ", s.device.str()));
  }
  if (static_cast<int64_t>(target_rows.size()) != embeddings.size(0)) {
    return absl::InvalidArgumentError(absl::StrCat(target_rows.size(), " target rows for ", embeddings.size(0), " embeddings"));
  }
  for (size_t i = 0; i < target_rows.size(); ++i) {
    if (target_rows[i] < -1 || target_rows[i] >= s.n) {
      return absl::InvalidArgumentError(
          absl::StrCat("the target row of sample ", i, " is ", target_rows[i], "; the step has ", s.n, " rows"));
    }
  }
  const PlainTensors guard;
  try {
    s.SumPending();  // Its logits are about to be overwritten.
    s.batch = embeddings.size(0);
    s.PlanTiles();
    s.ReserveChunk();
  } catch (const std::exception& e) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a chunk of ", embeddings.size(0), " embeddings: ", e.what()));
  }

  try {
    const SoftmaxPasses::Checked checked =
        s.passes->Normalize(embeddings.detach().contiguous(), s.unit_embeddings, s.embedding_inverse_norm);
    if (checked.first_not_finite >= 0) {
      return absl::InvalidArgumentError(absl::StrCat("the embedding of sample ", checked.first_not_finite, " is not finite"));
    }
    s.degenerate_embeddings = checked.degenerate_count;
    s.SetTargets(target_rows);

    s.group_max.fill_(kNegativeInfinity);
    s.group_sum.zero_();
    if (s.tile_count == 0) s.group_u.zero_();
    s.ForEachTile([&s](int64_t group, int64_t tile) { s.ForwardTile(group, tile); });
    const at::Tensor sums = s.MergeGroups().cpu();
    const at::Tensor maxima = s.final_max.cpu();

    Denominators denominators;
    denominators.max_logit.assign(maxima.const_data_ptr<float>(), maxima.const_data_ptr<float>() + s.batch);
    denominators.sum_exp.assign(sums.const_data_ptr<double>(), sums.const_data_ptr<double>() + s.batch);
    std::vector<size_t> by_sample(s.target_samples.size());
    std::iota(by_sample.begin(), by_sample.end(), size_t{0});
    std::sort(by_sample.begin(), by_sample.end(), [&s](size_t a, size_t b) { return s.target_samples[a] < s.target_samples[b]; });
    for (size_t k : by_sample) {
      denominators.target_index.push_back(static_cast<int32_t>(s.target_samples[k]));
      denominators.target_logit.push_back(s.target_logits[k].logit);
      denominators.target_cosine.push_back(static_cast<float>(s.target_cosines[k]));
    }
    return denominators;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("the forward pass failed: ", e.what()));
  }
}

at::Tensor SoftmaxShare::EmbeddingGradients(const MergedDenominators& merged, int64_t batch_size) {
  State& s = *state_;
  const PlainTensors guard;
  at::Tensor coefficients = s.group_factor[0];
  s.passes->Coefficients(s.final_max, s.LogZ(merged), s.Factor(batch_size), coefficients);
  at::Tensor gradients = at::empty({s.batch, s.dim}, s.Float());
  s.passes->ScaleRows(coefficients, s.accumulated, gradients);
  s.SetTargetFactors(merged, batch_size, &s.target_factors);
  s.passes->AddRows(s.target_factors, s.unit_rows, s.target_rows, gradients, s.target_samples);
  s.passes->Project(s.unit_embeddings, s.embedding_inverse_norm, gradients);
  return gradients;
}

void SoftmaxShare::AccumulateRowGradients(const MergedDenominators& merged, int64_t batch_size) {
  State& s = *state_;
  const PlainTensors guard;
  s.pending = true;
  s.pending_log_z = s.LogZ(merged);
  s.pending_factor = s.Factor(batch_size);
  s.SetTargetFactors(merged, batch_size, &s.pending_target_factors);
}

at::Tensor SoftmaxShare::RowGradients() const {
  State& s = *state_;
  const PlainTensors guard;
  at::Tensor gradients = at::empty({s.n, s.dim}, s.Float());
  s.ForEachTile([&](int64_t group, int64_t tile) {
    at::Tensor out = gradients.narrow(0, s.TileBegin(tile), s.TileSize(tile));
    out.copy_(s.TileGradient(group, tile));
    s.passes->Project(s.unit_rows.narrow(0, s.TileBegin(tile), s.TileSize(tile)),
                      s.row_inverse_norm.narrow(0, s.TileBegin(tile), s.TileSize(tile)), out);
  });
  if (s.summed) s.pending = false;
  return gradients;
}

void SoftmaxShare::Apply(const OptimizerOptions& optimizer, double learning_rate, RowEditor& rows) {
  State& s = *state_;
  const PlainTensors guard;
  const int dim = static_cast<int>(s.dim);
  float* const lent = s.Scratch(rows.scratch_floats()).mutable_data_ptr<float>();
  std::visit(
      [&](const auto& step) {
        if (!s.device.is_cpu()) {
          const at::Tensor gradients = RowGradients().cpu();
          const float* gradient = gradients.const_data_ptr<float>();
          for (int64_t j = 0; j < s.n; ++j, gradient += dim) {
            rows.Change(j, lent, [&](float* weights, float* slots) { UpdateRow(step, gradient, dim, weights, slots); });
          }
          return;
        }
        s.ForEachTile([&](int64_t group, int64_t tile) {
          const at::Tensor gradients = s.TileGradient(group, tile);
          const float* gradient = gradients.const_data_ptr<float>();
          const float* inverse_norm = s.row_inverse_norm.const_data_ptr<float>();
          float* const scratch = lent + group * rows.scratch_floats();
          const int64_t end = s.TileBegin(tile) + s.TileSize(tile);
          for (int64_t j = s.TileBegin(tile); j < end; ++j, gradient += dim) {
            if (j + kPrefetchDistance < end) rows.PrefetchToChange(j + kPrefetchDistance);
            rows.Change(j, scratch,
                        [&](float* weights, float* slots) { ProjectAndUpdateRow(step, gradient, inverse_norm[j], dim, weights, slots); });
          }
        });
      },
      MakeOptimizerStep(optimizer, learning_rate));
  s.rows_status = absl::FailedPreconditionError("the rows have moved since they were set");
}

}  // namespace myriad
