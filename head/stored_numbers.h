#ifndef MYRIAD_HEAD_STORED_NUMBERS_H_
#define MYRIAD_HEAD_STORED_NUMBERS_H_

#include <cstddef>
#include <cstdint>

#include "head/head_spec.h"

namespace myriad {

// How numbers lie in a row's record: float32, or 16 bits in which each float was rounded. Arithmetic is in float32 always; a number is
// rounded once, where a step commits it. Pure functions, thread-safe. `stored` is `count` numbers of BytesOf(type) each, and need not be
// aligned beyond that.

int64_t BytesOf(DataType type);

// Exact: every stored number is a float.
void Widen(DataType type, const std::byte* stored, int64_t count, float* out);

// To the nearest stored number, ties to even. Beyond the largest finite stored number: that number with its sign. NaN stays NaN, an
// infinity an infinity. Exact for kFloat32.
void StoreNearest(DataType type, const float* values, int64_t count, std::byte* stored);

// To one of the two neighbours, to each with the probability that makes the expectation the value: what is too small to move a 16-bit
// number in one step moves it in some of many (arXiv:1502.02551, section 3). Number i takes its random bits from (key, i) alone. Else as
// StoreNearest.
void StoreStochastically(DataType type, uint64_t key, const float* values, int64_t count, std::byte* stored);

}  // namespace myriad

#endif  // MYRIAD_HEAD_STORED_NUMBERS_H_
