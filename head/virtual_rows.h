#ifndef MYRIAD_HEAD_VIRTUAL_ROWS_H_
#define MYRIAD_HEAD_VIRTUAL_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "head/head_spec.h"

namespace myriad {

// The value of a row that was never touched: element d of class c is uniform in +-deviation*sqrt(3) (so its standard deviation is
// `initial_deviation`), from a counter-based generator of (seed, c, d), rounded to the nearest number of the head's weight_dtype as
// storing it would. The same on every machine, build and thread count.
// Writes head.embedding_dim floats to `out`. Thread-safe, no allocation.
void FillVirtualRow(const HeadSpec& head, int64_t class_id, float* out);
// The same as it is stored: embedding_dim numbers of weight_dtype. Requires: `stored` aligned for one.
void StoreVirtualRow(const HeadSpec& head, int64_t class_id, std::byte* stored);

}  // namespace myriad

#endif  // MYRIAD_HEAD_VIRTUAL_ROWS_H_
