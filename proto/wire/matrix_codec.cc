#include "proto/wire/matrix_codec.h"

#include <cstring>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "head/stored_numbers.h"

namespace myriad {
namespace {

at::ScalarType ScalarTypeOf(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32: return at::kFloat;
    case DataType::kBFloat16: return at::kBFloat16;
    case DataType::kFloat16: return at::kHalf;
  }
  return at::kFloat;
}

}  // namespace

absl::StatusOr<DataType> ParseDataType(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_UNSPECIFIED:
    case v1::DATA_TYPE_FLOAT32: return DataType::kFloat32;
    case v1::DATA_TYPE_BFLOAT16: return DataType::kBFloat16;
    case v1::DATA_TYPE_FLOAT16: return DataType::kFloat16;
    default:
      return absl::InvalidArgumentError(absl::StrCat("dtype ", static_cast<int>(dtype), " is not known; use FLOAT32, BFLOAT16 or FLOAT16"));
  }
}

v1::DataType ToProto(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32: return v1::DATA_TYPE_FLOAT32;
    case DataType::kBFloat16: return v1::DATA_TYPE_BFLOAT16;
    case DataType::kFloat16: return v1::DATA_TYPE_FLOAT16;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

absl::StatusOr<at::Tensor> ViewMatrix(const v1::Matrix& matrix, int64_t expected_cols, const std::string& what) {
  if (matrix.rows() == 0 && matrix.data().empty()) return at::empty({0, expected_cols}, at::kFloat);
  if (matrix.rows() < 0 || matrix.rows() >= (int64_t{1} << 31)) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", matrix.rows(), " rows are outside [0, 2^31)"));
  }
  if (matrix.cols() != expected_cols) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": rows are ", matrix.cols(), " wide; the head's are ", expected_cols));
  }
  if (matrix.dtype() == v1::DATA_TYPE_UNSPECIFIED) return absl::InvalidArgumentError(absl::StrCat(what, ": dtype is not set"));
  absl::StatusOr<DataType> dtype = ParseDataType(matrix.dtype());
  if (!dtype.ok()) return absl::InvalidArgumentError(absl::StrCat(what, ": ", dtype.status().message()));
  const int64_t expected_bytes = matrix.rows() * matrix.cols() * BytesOf(*dtype);
  if (static_cast<int64_t>(matrix.data().size()) != expected_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", matrix.data().size(), " bytes of data; ", matrix.rows(), " x ", matrix.cols(), " needs ", expected_bytes));
  }
  // from_blob takes a mutable pointer; nobody writes through a view of a received message.
  at::Tensor stored =
      at::from_blob(const_cast<char*>(matrix.data().data()), {matrix.rows(), matrix.cols()}, at::TensorOptions(ScalarTypeOf(*dtype)));
  return *dtype == DataType::kFloat32 ? stored : stored.to(at::kFloat);
}

void EncodeMatrix(absl::Span<const float> data, int64_t rows, int64_t cols, DataType dtype, v1::Matrix* matrix) {
  EncodeMatrix(at::from_blob(const_cast<float*>(data.data()), {rows, cols}, at::kFloat), dtype, matrix);
}

void EncodeMatrix(const at::Tensor& tensor, DataType dtype, v1::Matrix* matrix) {
  matrix->set_dtype(ToProto(dtype));
  matrix->set_rows(tensor.size(0));
  matrix->set_cols(tensor.size(1));
  std::string* data = matrix->mutable_data();
  const at::Tensor source = dtype == DataType::kFloat32 ? tensor.contiguous() : tensor.to(ScalarTypeOf(dtype)).contiguous();
  data->assign(static_cast<const char*>(source.const_data_ptr()), tensor.numel() * BytesOf(dtype));
}

template <typename T>
absl::StatusOr<std::vector<T>> DecodeArray(const std::string& bytes, const std::string& what) {
  if (bytes.size() % sizeof(T) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", bytes.size(), " bytes are no multiple of ", sizeof(T)));
  }
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

template <typename T>
std::string EncodeArray(absl::Span<const T> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template absl::StatusOr<std::vector<float>> DecodeArray(const std::string&, const std::string&);
template absl::StatusOr<std::vector<double>> DecodeArray(const std::string&, const std::string&);
template absl::StatusOr<std::vector<int32_t>> DecodeArray(const std::string&, const std::string&);
template absl::StatusOr<std::vector<int64_t>> DecodeArray(const std::string&, const std::string&);
template absl::StatusOr<std::vector<uint8_t>> DecodeArray(const std::string&, const std::string&);
template std::string EncodeArray(absl::Span<const float>);
template std::string EncodeArray(absl::Span<const double>);
template std::string EncodeArray(absl::Span<const int32_t>);
template std::string EncodeArray(absl::Span<const int64_t>);
template std::string EncodeArray(absl::Span<const uint8_t>);

}  // namespace myriad
