#ifndef MYRIAD_PROTO_WIRE_MATRIX_CODEC_H_
#define MYRIAD_PROTO_WIRE_MATRIX_CODEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "myriad/v1/matrix.pb.h"

namespace myriad {

// A Matrix as a float32 CPU tensor of rows x cols. float32 bytes are viewed, not copied: `matrix` must outlive the tensor.
// Errors: INVALID_ARGUMENT, starting with `what`: unspecified dtype, negative or too large shape, cols other than `expected_cols`, bytes of
// another length than the shape says. An empty matrix gives 0 x expected_cols.
absl::StatusOr<at::Tensor> ViewMatrix(const v1::Matrix& matrix, int64_t expected_cols, const std::string& what);

// Writes a 2-d float32 CPU tensor as `dtype`, one copy.
void EncodeMatrix(const at::Tensor& tensor, DataType dtype, v1::Matrix* matrix);
// The same from raw floats.
void EncodeMatrix(absl::Span<const float> data, int64_t rows, int64_t cols, DataType dtype, v1::Matrix* matrix);

// Arrays of fixed-size numbers that travel as little-endian bytes. Decode: INVALID_ARGUMENT, starting with `what`, if the length is no
// multiple.
template <typename T>
absl::StatusOr<std::vector<T>> DecodeArray(const std::string& bytes, const std::string& what);
template <typename T>
std::string EncodeArray(absl::Span<const T> values);

// FLOAT32 for UNSPECIFIED; INVALID_ARGUMENT for a number outside the enum.
absl::StatusOr<DataType> ParseDataType(v1::DataType dtype);
v1::DataType ToProto(DataType dtype);

}  // namespace myriad

#endif  // MYRIAD_PROTO_WIRE_MATRIX_CODEC_H_
