#include "client/gemm_reference.h"

#include <algorithm>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

// More than any last-level cache on a machine with few cores, and at least three turns.
constexpr int64_t kCycledBytes = int64_t{256} << 20;

double MedianOf(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

struct GemmReference::State {
  int64_t rows, batch, dim;
  std::vector<at::Tensor> weights;  // Copies of W that take turns.
  at::Tensor embeddings, class_major, batch_major, embedding_gradients, row_gradients;
  size_t turn = 0;
  std::vector<double> class_major_seconds;
  std::vector<double> batch_major_seconds;
};

GemmReference::GemmReference(int64_t rows, int64_t batch, int64_t dim) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.rows = rows;
  s.batch = batch;
  s.dim = dim;
  const int64_t bytes = std::max<int64_t>(1, rows * dim * static_cast<int64_t>(sizeof(float)));
  const int64_t copies = std::max<int64_t>(3, std::min<int64_t>(64, kCycledBytes / bytes));
  for (int64_t i = 0; i < copies; ++i) s.weights.push_back(at::randn({rows, dim}));
  s.embeddings = at::randn({batch, dim});
  s.class_major = at::zeros({rows, batch});
  s.batch_major = at::zeros({batch, rows});
  s.embedding_gradients = at::zeros({batch, dim});
  s.row_gradients = at::zeros({rows, dim});
}

GemmReference::~GemmReference() = default;

void GemmReference::Run(int runs) {
  State& s = *state_;
  for (int run = 0; run < runs; ++run) {
    {
      const at::Tensor& w = s.weights[s.turn++ % s.weights.size()];
      const absl::Time start = absl::Now();
      at::mm_out(s.class_major, w, s.embeddings.t());
      at::mm_out(s.embedding_gradients, s.class_major.t(), w);
      at::mm_out(s.row_gradients, s.class_major, s.embeddings);
      s.class_major_seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    }
    {
      const at::Tensor& w = s.weights[s.turn++ % s.weights.size()];
      const absl::Time start = absl::Now();
      at::mm_out(s.batch_major, s.embeddings, w.t());
      at::mm_out(s.embedding_gradients, s.batch_major, w);
      at::mm_out(s.row_gradients, s.batch_major.t(), s.embeddings);
      s.batch_major_seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    }
  }
}

GemmReference::Result GemmReference::Median() const {
  const State& s = *state_;
  const double class_major = MedianOf(s.class_major_seconds);
  const double batch_major = MedianOf(s.batch_major_seconds);
  Result result;
  result.seconds = std::min(class_major, batch_major);
  result.gflops = 6.0 * s.rows * s.batch * s.dim / result.seconds / 1e9;
  result.layout = class_major <= batch_major ? "class-major" : "batch-major";
  result.runs = static_cast<int>(s.class_major_seconds.size());
  return result;
}

}  // namespace myriad
