#ifndef MYRIAD_HEAD_MARGIN_H_
#define MYRIAD_HEAD_MARGIN_H_

#include "head/head_spec.h"

namespace myriad {

struct TargetLogit {
  double logit;       // z
  double derivative;  // dz/dc
};

// The logit of a sample's own class from its cosine c, and its derivative, with s = scale and m = margin:
//   CosFace (arXiv:1801.09414):  z = s (c - m),                        dz/dc = s
//   ArcFace (arXiv:1801.07698):  z = s cos(theta + m) = s (c cos m - sin(theta) sin m), sin(theta) = sqrt(max(1 - c^2, 1e-6));
//                                dz/dc = s (cos m + c sin m / sin(theta)), and s cos m where the floor holds (sin(theta) is constant
//                                there). Where c <= cos(pi - m), theta + m would pass pi and z rise again: z = s (c - m sin m), dz/dc = s.
//   ArcFace straight through:    z = s cos(theta + m) everywhere (c clamped to [-1, 1], no floor), dz/dc = s: InsightFace's Partial FC,
//   whose
//                                logit is computed outside of the graph.
// The cosine may lie outside of [-1, 1] by rounding.
TargetLogit ApplyMargin(const MarginOptions& margin, double cosine);

}  // namespace myriad

#endif  // MYRIAD_HEAD_MARGIN_H_
