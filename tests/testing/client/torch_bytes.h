#ifndef MYRIAD_TESTS_TESTING_CLIENT_TORCH_BYTES_H_
#define MYRIAD_TESTS_TESTING_CLIENT_TORCH_BYTES_H_

#include <zlib.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace myriad::testing {

// Files as torch.save() writes them, byte by byte.

// A number as it lies in a file.
template <typename T>
std::string Raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
template <typename T>
std::string RawAll(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// Pieces of a pickle of protocol 2.
inline std::string Text(const std::string& text) { return "X" + Raw<uint32_t>(text.size()) + text; }
inline std::string Int(int32_t value) { return "J" + Raw(value); }
inline std::string Tuple(const std::vector<std::string>& items) {
  std::string bytes = "(";
  for (const std::string& item : items) bytes += item;
  return bytes + "t";
}
inline std::string IntTuple(const std::vector<int32_t>& values) {
  std::vector<std::string> items;
  for (int32_t value : values) items.push_back(Int(value));
  return Tuple(items);
}
inline std::string Name(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
inline std::string Dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string bytes = "}(";
  for (const auto& [key, value] : items) bytes += Text(key) + value;
  return bytes + "u";
}
inline std::string PickleOf(const std::string& value) { return "\x80\x02" + value + "."; }
inline std::string Tensor(const std::string& storage_type, const std::string& key, int32_t storage_numbers, int32_t offset,
                          const std::vector<int32_t>& size, const std::vector<int32_t>& stride) {
  const std::string storage = Tuple({Text("storage"), Name("torch", storage_type), Text(key), Text("cuda:0"), Int(storage_numbers)}) + "Q";
  const std::string hooks = Name("collections", "OrderedDict") + ")R";
  return Name("torch._utils", "_rebuild_tensor_v2") + Tuple({storage, Int(offset), IntTuple(size), IntTuple(stride), "\x89", hooks}) + "R";
}

// A zip archive of stored files.
inline std::string ZipOf(const std::vector<std::pair<std::string, std::string>>& files, uint16_t method = 0) {
  std::string archive, directory;
  for (const auto& [name, content] : files) {
    const uint32_t crc = crc32(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
    const uint32_t size = content.size();
    const std::string common = Raw<uint16_t>(20) + Raw<uint16_t>(0) + Raw<uint16_t>(method) + Raw<uint32_t>(0) + Raw(crc) + Raw(size) +
                               Raw(size) + Raw<uint16_t>(name.size());
    directory += "PK\x01\x02" + Raw<uint16_t>(20) + common + Raw<uint16_t>(0) + Raw<uint16_t>(0) + Raw<uint16_t>(0) + Raw<uint16_t>(0) +
                 Raw<uint32_t>(0) + Raw<uint32_t>(archive.size()) + name;
    const std::string padding(5, 'F');  // As a writer aligns what follows.
    archive += "PK\x03\x04" + common + Raw<uint16_t>(padding.size()) + name + padding + content;
  }
  const uint16_t count = files.size();
  return archive + directory + "PK\x05\x06" + Raw<uint16_t>(0) + Raw<uint16_t>(0) + Raw(count) + Raw(count) +
         Raw<uint32_t>(directory.size()) + Raw<uint32_t>(archive.size()) + Raw<uint16_t>(0);
}

// A checkpoint whose pickle is `value` and whose storages are `storages`, by key.
inline std::string TorchBytes(const std::string& value, const std::vector<std::pair<std::string, std::string>>& storages) {
  std::vector<std::pair<std::string, std::string>> files = {{"archive/data.pkl", PickleOf(value)}};
  for (const auto& [key, bytes] : storages) files.emplace_back("archive/data/" + key, bytes);
  files.emplace_back("archive/version", "3\n");
  return ZipOf(files);
}
// One n x cols matrix of float32.
inline std::string TorchMatrixBytes(const std::vector<float>& values, int cols) {
  const int rows = static_cast<int>(values.size()) / cols;
  return TorchBytes(Tensor("FloatStorage", "0", values.size(), 0, {rows, cols}, {cols, 1}), {{"0", RawAll(values)}});
}

}  // namespace myriad::testing

#endif  // MYRIAD_TESTS_TESTING_CLIENT_TORCH_BYTES_H_
