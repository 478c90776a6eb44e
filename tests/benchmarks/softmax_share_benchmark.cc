// Times one step of a SoftmaxShare at the size that the head is judged at, beside its three matrix products alone, after checking the
// step against plain ATen in float64. Rows lie in random 4 KiB records (weights, then momentum) of a 2 GiB arena, as in a server.
//
//   bazel run //tests/benchmarks:softmax_share_benchmark [-- ROWS BATCH DIM]
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "head/head_spec.h"
#include "head/partial_denominator.h"
#include "head/sampler.h"
#include "head/softmax_share.h"
#include "head/virtual_rows.h"
#include "tests/testing/float_row_editor.h"

namespace myriad {
namespace {

constexpr int64_t kArenaBytes = int64_t{2} << 30;
constexpr int kSteps = 15;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of all threads: what a machine that others use too does not inflate. Threads must not spin while they wait (OMP_WAIT_POLICY=PASSIVE).
double CpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Timing {
  const char* name;
  std::vector<double> seconds, cpu_seconds;

  void Time(const std::function<void()>& work) {
    const double begin = Seconds(), cpu_begin = CpuSeconds();
    work();
    seconds.push_back(Seconds() - begin);
    cpu_seconds.push_back(CpuSeconds() - cpu_begin);
  }
  void Clear() {
    seconds.clear();
    cpu_seconds.clear();
  }
  void Print() const {
    const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
    std::printf("%-24s median %8.2f ms   min %8.2f   max %8.2f   median of CPU %8.2f\n", name, Median(seconds) * 1e3, *least * 1e3,
                *most * 1e3, Median(cpu_seconds) * 1e3);
  }
};

// Weights after one plain SGD step (no momentum before) in float64, for the rows given.
at::Tensor PlainStep(const at::Tensor& w, const at::Tensor& x, const std::vector<int32_t>& targets, const MarginOptions& margin,
                     const OptimizerOptions& sgd, double rate, at::Tensor* embedding_gradients) {
  const int64_t batch = x.size(0);
  const at::Tensor w_norm = w.norm(2, {1}, true), x_norm = x.norm(2, {1}, true);
  const at::Tensor u = w / w_norm, e = x / x_norm;
  at::Tensor logits = at::mm(e, u.t()) * margin.scale;
  at::Tensor hot = at::zeros_like(logits);
  for (int64_t i = 0; i < batch; ++i) hot[i][targets[i]].fill_(1.0);
  logits = logits - hot * (margin.scale * margin.margin);
  const at::Tensor by_cosine = (at::softmax(logits, 1) - hot) * (margin.scale / static_cast<double>(batch));
  const at::Tensor de = at::mm(by_cosine, u), du = at::mm(by_cosine.t(), e);
  *embedding_gradients = (de - (de * e).sum({1}, true) * e) / x_norm;
  const at::Tensor dw = (du - (du * u).sum({1}, true) * u) / w_norm;
  return w - (dw + w * sgd.weight_decay) * rate;
}

double WorstDifference(const at::Tensor& a, const at::Tensor& b) { return ((a - b).abs().max() / b.abs().max()).item<double>(); }

int Main(int argc, char** argv) {
  const int64_t rows = argc > 1 ? std::atoll(argv[1]) : 16640;
  const int64_t batch = argc > 2 ? std::atoll(argv[2]) : 256;
  const int dim = argc > 3 ? std::atoi(argv[3]) : 512;
  const int64_t record_floats = 2 * dim;
  const int64_t record_count = kArenaBytes / (record_floats * 4);
  void* memory = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || rows < batch || rows > record_count) {
    std::fprintf(stderr, "softmax_share_benchmark: no %lld bytes of memory, or ROWS outside of [BATCH, %lld]\n",
                 static_cast<long long>(kArenaBytes), static_cast<long long>(record_count));
    return 1;
  }
  madvise(memory, kArenaBytes, MADV_HUGEPAGE);
  float* arena = static_cast<float*>(memory);
  HeadSpec head;
  head.embedding_dim = dim;
  at::parallel_for(0, record_count, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) FillVirtualRow(head, r, arena + r * record_floats);
  });

  std::mt19937_64 rng(1);
  SoftmaxShare::Options options;
  options.embedding_dim = dim;
  SoftmaxShare share(options);
  const OptimizerOptions sgd;
  std::vector<int64_t> records(record_count);
  for (int64_t r = 0; r < record_count; ++r) records[r] = r;
  std::vector<float*> weights(rows), momentum(rows);
  FloatRowEditor step_rows(static_cast<int>(dim), weights, momentum);
  std::vector<int32_t> targets(batch);
  at::Tensor x = at::randn({batch, dim});
  const auto choose = [&] {
    for (int64_t j = 0; j < rows; ++j) {
      std::swap(records[j], records[j + rng() % (record_count - j)]);
      weights[j] = arena + records[j] * record_floats;
      momentum[j] = weights[j] + dim;
    }
    for (int32_t& target : targets) target = static_cast<int32_t>(rng() % rows);
  };
  const auto gather = [&] {
    at::Tensor w = at::empty({rows, dim});
    for (int64_t j = 0; j < rows; ++j) std::memcpy(w.mutable_data_ptr<float>() + j * dim, weights[j], sizeof(float) * dim);
    return w;
  };

  Timing set_rows{"SetRows", {}, {}}, forward{"Forward", {}, {}}, embedding_gradients{"EmbeddingGradients", {}, {}},
      row_gradients{"AccumulateRowGradients", {}, {}}, apply{"Apply", {}, {}}, whole{"whole step", {}, {}},
      products{"three at::mm", {}, {}}, virtual_rows{"virtual rows", {}, {}}, draw{"DrawStepRows", {}, {}};
  const at::Tensor unit_rows = at::randn({rows, dim});
  at::Tensor logits = at::empty({rows, batch}), u = at::empty({batch, dim}), h = at::empty({rows, dim});
  std::vector<float> flush(int64_t{16} << 20);
  const Partitions partitions(100'000'000, 1);
  SamplerOptions sampler;
  sampler.sample_count = rows - batch;

  for (int step = -2; step < kSteps; ++step) {
    if (step == 0) {
      for (Timing* timing : {&set_rows, &forward, &embedding_gradients, &row_gradients, &apply, &whole, &products, &virtual_rows, &draw}) {
        timing->Clear();
      }
    }
    choose();
    const at::Tensor before = step == -2 ? gather() : at::Tensor();
    at::Tensor dx;
    whole.Time([&] {
      set_rows.Time([&] { share.SetRows(step_rows); });
      absl::StatusOr<Denominators> denominators;
      forward.Time([&] { denominators = share.Forward(x, targets); });
      const MergedDenominators merged = *MergeShares({*denominators}, batch);
      embedding_gradients.Time([&] { dx = share.EmbeddingGradients(merged, batch); });
      row_gradients.Time([&] { share.AccumulateRowGradients(merged, batch); });
      apply.Time([&] { share.Apply(sgd, 0.1, step_rows); });
    });
    if (step == -2) {
      at::Tensor expected_dx;
      const at::Tensor expected = PlainStep(before.to(at::kDouble), x.to(at::kDouble), targets, options.margin, sgd, 0.1, &expected_dx);
      const double worst = std::max(WorstDifference(dx.to(at::kDouble), expected_dx), WorstDifference(gather().to(at::kDouble), expected));
      if (!(worst < 1e-5)) {
        std::fprintf(stderr, "softmax_share_benchmark: the step differs from float64 by %g of the largest element\n", worst);
        return 1;
      }
      std::printf("checked against float64: worst difference %.2g of the largest element\n", worst);
    }
    for (float& value : flush) value += 1.0f;  // W of the products is not in the cache either.
    products.Time([&] {
      at::mm_out(logits, unit_rows, x.t());
      at::mm_out(u, logits.t(), unit_rows);
      at::mm_out(h, logits, x);
    });
    virtual_rows.Time([&] {
      at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; ++j) FillVirtualRow(head, j, h.mutable_data_ptr<float>() + j * dim);
      });
    });
    draw.Time([&] { DrawStepRows(partitions, sampler, step + 2, 0, 1, {}); });
  }
  std::printf("%lld rows, batch %lld, dim %d, %d threads, %d steps\n", static_cast<long long>(rows), static_cast<long long>(batch), dim,
              at::get_num_threads(), kSteps);
  for (const Timing* timing :
       {&set_rows, &forward, &embedding_gradients, &row_gradients, &apply, &whole, &products, &virtual_rows, &draw}) {
    timing->Print();
  }
  std::printf("whole step / three at::mm = %.3f by the clock, %.3f by CPU time\n", Median(whole.seconds) / Median(products.seconds),
              Median(whole.cpu_seconds) / Median(products.cpu_seconds));
  return 0;
}

}  // namespace
}  // namespace myriad

int main(int argc, char** argv) { return myriad::Main(argc, argv); }
