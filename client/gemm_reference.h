#ifndef MYRIAD_CLIENT_GEMM_REFERENCE_H_
#define MYRIAD_CLIENT_GEMM_REFERENCE_H_

#include <cstdint>
#include <memory>
#include <string>

namespace myriad {

// The three matrix products of a head step over n rows, and nothing else: what any implementation must do. With W (n x D) and X (B x D):
//   class-major:  L = W X^T (n x B),  dX = L^T W,  dW = L X        batch-major:  L = X W^T (B x n),  dX = L W,  dW = L^T X
// each an at::mm into a contiguous output that exists already. Several copies of W take turns, so that none is in a cache when its turn
// comes.
class GemmReference {
 public:
  struct Result {
    double seconds = 0.0;  // Median of a run of three products, in the better layout.
    double gflops = 0.0;   // 6 n B D operations over that time, 10^9 per second.
    std::string layout;    // "class-major" or "batch-major".
    int runs = 0;          // Of each layout.
  };

  // Allocates and touches everything. All of it goes when the object does.
  GemmReference(int64_t rows, int64_t batch, int64_t dim);
  ~GemmReference();

  // Times `runs` more runs of each layout, in turns, with at::get_num_threads() threads.
  void Run(int runs);
  // Over all runs so far. Requires: at least one.
  Result Median() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_GEMM_REFERENCE_H_
