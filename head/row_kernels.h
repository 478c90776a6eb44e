#ifndef MYRIAD_HEAD_ROW_KERNELS_H_
#define MYRIAD_HEAD_ROW_KERNELS_H_

#include <cstdint>

#include "head/prefetch.h"

namespace myriad {

// Passes over one vector of `dim` floats in plain memory, vectorised. All are pure; thread-safe on different outputs.

// The norm below which a row or an embedding counts as degenerate: its cosines and gradients are 0.
constexpr double kMinNorm = 1e-12;

// As PrefetchBytes().
inline void PrefetchRow(const float* row, int dim, bool write) {
  PrefetchBytes(row, static_cast<int64_t>(dim) * static_cast<int64_t>(sizeof(float)), write);
}
// How many rows ahead of the one worked on.
constexpr int64_t kPrefetchDistance = 2;

struct NormalizedRow {
  float inverse_norm;  // 1/|row|; 0 when degenerate or not finite.
  bool finite;         // Whether all elements are.
};
// unit = row/|row|, or zeros when degenerate or not finite.
NormalizedRow NormalizeRow(const float* row, int dim, float* unit);

// Accumulated in double.
double Dot(const float* a, const float* b, int dim);

// y += factor x.
void AddScaled(float factor, const float* x, int dim, float* y);

// out = factor x.
void Scale(float factor, const float* x, int dim, float* out);

// The gradient through u = w/|w|: gradient = (gradient - (gradient . unit) unit) * inverse_norm.
void ProjectRow(const float* unit, float inverse_norm, int dim, float* gradient);

// The constants of one step of each optimizer in the arithmetic of the rows; OptimizerOptions has the equations.

// v = momentum v + g + coupled_decay w;  w -= rate (v + decoupled_decay w).  slots: v.
struct SgdStep {
  float momentum;
  float coupled_decay;
  float decoupled_decay;
  float rate;
};
// slots: m, v, and the count of the row's updates. w keeps `kept` = 1 - rate lambda of itself.
struct AdamWStep {
  double beta1;  // In double: float32 would lose digits of 1 - beta, and more of beta^t.
  double beta2;
  float epsilon;
  float kept;
  float rate;
};
// slots: the sum of squares.
struct AdagradStep {
  float decay;
  float epsilon;
  float rate;
};

// Moves one row by its gradient. `gradient` and `weights` are `dim` floats, `slots` as SlotRanges() says, all float32.
void UpdateRow(const SgdStep& step, const float* gradient, int dim, float* weights, float* slots);
void UpdateRow(const AdamWStep& step, const float* gradient, int dim, float* weights, float* slots);
void UpdateRow(const AdagradStep& step, const float* gradient, int dim, float* weights, float* slots);

// w' = ww w + wv v;  v' = vw w + vv v.
struct RowMap {
  double ww = 1.0, wv = 0.0, vw = 0.0, vv = 1.0;
};
// Moves each number of a row and of its momentum so, in float32.
void MapRow(const RowMap& map, int dim, float* weights, float* velocity);

// ProjectRow with unit = weights * inverse_norm, then UpdateRow, reading each number from memory once.
void ProjectAndUpdateRow(const SgdStep& step, const float* gradient, float inverse_norm, int dim, float* weights, float* slots);
void ProjectAndUpdateRow(const AdamWStep& step, const float* gradient, float inverse_norm, int dim, float* weights, float* slots);
void ProjectAndUpdateRow(const AdagradStep& step, const float* gradient, float inverse_norm, int dim, float* weights, float* slots);

}  // namespace myriad

#endif  // MYRIAD_HEAD_ROW_KERNELS_H_
