#include "client/head_rows.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <queue>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/file_util.h"
#include "head/type_names.h"

namespace myriad {
namespace {

constexpr int64_t kMergeBytes = 4 << 20;  // Gathered before they are written out.
// No head has more: a file that says so is no rows file.
constexpr int64_t kLargestDim = 65536;
constexpr int64_t kMostSlotNumbers = 4 * kLargestDim;

int64_t LoadId(const char* bytes, int64_t index) {
  int64_t id;
  std::memcpy(&id, bytes + index * sizeof(id), sizeof(id));
  return id;
}

// A file without a name: it is gone with its descriptor, however the process ends.
absl::StatusOr<int> OpenNamelessFile(const std::string& folder) {
  std::string name = JoinPath(folder, "rows.spill-XXXXXX");
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, name);
  ::unlink(name.c_str());
  return fd;
}

}  // namespace

std::map<std::string, std::string> RowFileMetadata(const HeadSpec& head, int64_t committed_steps, bool slots) {
  std::map<std::string, std::string> metadata = {{"head", head.name}, {"committed_steps", absl::StrCat(committed_steps)}};
  if (slots) {
    metadata["optimizer"] = std::string(NameOf(head.slots));
    metadata["slot_dtype"] = std::string(NameOf(head.slot_dtype));
  }
  return metadata;
}

std::string HeadRowsPath(const std::string& folder, int index, int count) {
  return JoinPath(folder, absl::StrFormat("rows-%05d-of-%05d.safetensors", index, count));
}

// Rows are held and spilled as records: class id, weights, slots.
struct HeadRowsWriter::State {
  explicit State(const Options& o)
      : options(o), dim(o.head.embedding_dim), slot_numbers(SlotNumbers(o.head)), row_floats(dim + slot_numbers) {}
  ~State() {
    if (fd >= 0) ::close(fd);
  }

  int64_t record_bytes() const { return static_cast<int64_t>(sizeof(int64_t) + row_floats * sizeof(float)); }

  absl::Status Spill();
  absl::Status Merge(const char* records, SafetensorsWriter* writer) const;

  const Options options;
  const int64_t dim;
  const int64_t slot_numbers;
  const int64_t row_floats;
  int fd = -1;
  std::vector<int64_t> ids;                       // Of the buffered rows.
  std::vector<float> floats;                      // Theirs, row_floats each.
  std::vector<std::pair<int64_t, int64_t>> runs;  // [first, last) records of each sorted run in the file.
  int64_t spilled = 0;
};

absl::Status HeadRowsWriter::State::Spill() {
  if (ids.empty()) return absl::OkStatus();
  std::vector<int64_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return ids[a] < ids[b]; });
  std::string block;
  int64_t offset = spilled * record_bytes();
  for (size_t i = 0; i < order.size(); ++i) {
    block.append(reinterpret_cast<const char*>(&ids[order[i]]), sizeof(int64_t));
    block.append(reinterpret_cast<const char*>(floats.data() + order[i] * row_floats), row_floats * sizeof(float));
    if (static_cast<int64_t>(block.size()) < kMergeBytes && i + 1 < order.size()) continue;
    if (absl::Status status = WriteAll(fd, block, offset, options.folder); !status.ok()) return status;
    offset += static_cast<int64_t>(block.size());
    block.clear();
  }
  const int64_t count = static_cast<int64_t>(ids.size());
  runs.emplace_back(spilled, spilled + count);
  spilled += count;
  ids.clear();
  floats.clear();
  return absl::OkStatus();
}

absl::Status HeadRowsWriter::State::Merge(const char* records, SafetensorsWriter* writer) const {
  const int64_t bytes = record_bytes();
  const int64_t weight_bytes = dim * static_cast<int64_t>(sizeof(float));
  const int64_t slot_bytes = slot_numbers * static_cast<int64_t>(sizeof(float));
  using Head = std::pair<int64_t, size_t>;  // The next class id of a run, and the run.
  std::priority_queue<Head, std::vector<Head>, std::greater<Head>> heads;
  std::vector<int64_t> next;
  for (size_t run = 0; run < runs.size(); ++run) {
    next.push_back(runs[run].first);
    heads.emplace(LoadId(records + runs[run].first * bytes, 0), run);
  }
  std::string columns[3];
  const auto flush = [&]() {
    for (size_t column = 0; column < 3; ++column) {
      if (columns[column].empty()) continue;
      if (absl::Status status = writer->Append(column, columns[column]); !status.ok()) return status;
      columns[column].clear();
    }
    return absl::OkStatus();
  };
  int64_t last_id = -1;
  while (!heads.empty()) {
    const auto [id, run] = heads.top();
    heads.pop();
    if (id == last_id)
      return absl::InvalidArgumentError(absl::StrCat("head ", options.head.name, ": the row of class ", id, " came twice"));
    last_id = id;
    const char* record = records + next[run] * bytes;
    columns[0].append(record, sizeof(int64_t));
    columns[1].append(record + sizeof(int64_t), weight_bytes);
    columns[2].append(record + sizeof(int64_t) + weight_bytes, slot_bytes);
    if (++next[run] < runs[run].second) heads.emplace(LoadId(records + next[run] * bytes, 0), run);
    if (static_cast<int64_t>(columns[1].size()) < kMergeBytes) continue;
    if (absl::Status status = flush(); !status.ok()) return status;
  }
  return flush();
}

HeadRowsWriter::HeadRowsWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
HeadRowsWriter::~HeadRowsWriter() = default;

absl::StatusOr<std::unique_ptr<HeadRowsWriter>> HeadRowsWriter::Create(const Options& options) {
  if (options.head.embedding_dim < 1 || options.buffer_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head rows of ", options.head.embedding_dim, " numbers in a buffer of ", options.buffer_bytes, " bytes"));
  }
  auto state = std::make_unique<State>(options);
  absl::StatusOr<int> fd = OpenNamelessFile(options.folder);
  if (!fd.ok()) return fd.status();
  state->fd = *fd;
  return std::unique_ptr<HeadRowsWriter>(new HeadRowsWriter(std::move(state)));
}

absl::Status HeadRowsWriter::Append(absl::Span<const int64_t> class_ids, absl::Span<const float> weights, absl::Span<const float> slots) {
  const int64_t count = static_cast<int64_t>(class_ids.size());
  const int64_t dim = state_->dim;
  const int64_t slot_dim = state_->slot_numbers;
  if (static_cast<int64_t>(weights.size()) != count * dim || static_cast<int64_t>(slots.size()) != count * slot_dim) {
    return absl::InvalidArgumentError(absl::StrCat("head ", state_->options.head.name, ": ", count, " rows of ", dim, " + ", slot_dim,
                                                   " numbers came with ", weights.size(), " weights and ", slots.size(), " slots"));
  }
  for (int64_t i = 0; i < count; ++i) {
    if (class_ids[i] < 0) return absl::InvalidArgumentError(absl::StrCat("head ", state_->options.head.name, ": class id ", class_ids[i]));
    state_->ids.push_back(class_ids[i]);
    state_->floats.insert(state_->floats.end(), weights.begin() + i * dim, weights.begin() + (i + 1) * dim);
    state_->floats.insert(state_->floats.end(), slots.begin() + i * slot_dim, slots.begin() + (i + 1) * slot_dim);
    if (static_cast<int64_t>(state_->ids.size()) * state_->record_bytes() < state_->options.buffer_bytes) continue;
    if (absl::Status status = state_->Spill(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status HeadRowsWriter::Finish(int64_t committed_steps) {
  State& state = *state_;
  if (absl::Status status = state.Spill(); !status.ok()) return status;
  const std::vector<TensorInfo> tensors = {
      {"class_ids", TensorType::kI64, {state.spilled}},
      {"weights", TensorType::kF32, {state.spilled, state.dim}},
      {"slots", TensorType::kF32, {state.spilled, state.slot_numbers}},
  };
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(
      HeadRowsPath(state.options.folder, 0, 1), tensors, RowFileMetadata(state.options.head, committed_steps, /*slots=*/true));
  if (!writer.ok()) return writer.status();
  if (state.spilled > 0) {
    const size_t bytes = state.spilled * state.record_bytes();
    void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, state.fd, 0);
    if (map == MAP_FAILED) return ErrnoStatus(errno, state.options.folder);
    const absl::Status status = state.Merge(static_cast<const char*>(map), writer->get());
    ::munmap(map, bytes);
    if (!status.ok()) return status;
  }
  return (*writer)->Finish();
}

int64_t HeadRowsReader::File::IdAt(int64_t row) const { return LoadId(class_ids, row); }

absl::StatusOr<std::vector<std::string>> HeadRowsFiles(const std::string& folder) {
  int count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    int index = 0;
    int of = 0;
    if (name.size() != std::strlen("rows-00000-of-00001.safetensors") || !absl::SimpleAtoi(name.substr(5, 5), &index) ||
        !absl::SimpleAtoi(name.substr(14, 5), &of) || JoinPath(folder, name) != HeadRowsPath(folder, index, of)) {
      continue;
    }
    if (count != 0 && count != of) {
      return absl::DataLossError(absl::StrCat(folder, ": rows files of two sets, of ", count, " and of ", of));
    }
    count = of;
  }
  if (error) return ErrnoStatus(error.value(), folder);
  if (count == 0) return absl::NotFoundError(absl::StrCat(folder, ": no rows-*.safetensors"));
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    paths.push_back(HeadRowsPath(folder, i, count));
    if (!std::filesystem::exists(paths.back(), error))
      return absl::DataLossError(absl::StrCat(paths.back(), ": missing of a set of ", count));
  }
  return paths;
}

absl::StatusOr<std::unique_ptr<HeadRowsReader>> HeadRowsReader::Open(const std::string& folder) {
  const absl::StatusOr<std::vector<std::string>> paths = HeadRowsFiles(folder);
  if (!paths.ok()) return paths.status();
  std::unique_ptr<HeadRowsReader> reader(new HeadRowsReader());
  for (const std::string& path : *paths) {
    if (absl::Status status = reader->AddFile(path); !status.ok()) return status;
  }
  return reader;
}

absl::Status HeadRowsReader::AddFile(const std::string& path) {
  absl::StatusOr<std::unique_ptr<SafetensorsReader>> opened = SafetensorsReader::Open(path);
  if (!opened.ok()) return opened.status();
  File file;
  file.reader = *std::move(opened);
  const absl::StatusOr<TensorView> ids = file.reader->Find("class_ids");
  const absl::StatusOr<TensorView> weights = file.reader->Find("weights");
  const absl::StatusOr<TensorView> slots = file.reader->Find("slots");
  for (const absl::Status& status : {ids.status(), weights.status(), slots.status()}) {
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("not a rows file: ", status.message()));
  }
  const std::vector<int64_t>& weight_shape = weights->info->shape;
  const std::vector<int64_t>& slot_shape = slots->info->shape;
  const bool types_fit =
      ids->info->type == TensorType::kI64 && weights->info->type == TensorType::kF32 && slots->info->type == TensorType::kF32;
  if (!types_fit || ids->info->shape.size() != 1 || weight_shape.size() != 2 || slot_shape.size() != 2 ||
      weight_shape[0] != ids->info->shape[0] || slot_shape[0] != ids->info->shape[0] || weight_shape[1] < 1 ||
      weight_shape[1] > kLargestDim || slot_shape[1] > kMostSlotNumbers) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a rows file: it needs class_ids I64 [n], weights F32 [n, D], slots F32 [n, S], with D up to ",
                     kLargestDim, " and S up to ", kMostSlotNumbers));
  }
  const int dim = static_cast<int>(weight_shape[1]);
  const int slot_numbers = static_cast<int>(slot_shape[1]);
  const auto& metadata = file.reader->metadata();
  const auto head = metadata.find("head");
  const auto steps = metadata.find("committed_steps");
  int64_t committed_steps = 0;
  if (head == metadata.end() || steps == metadata.end() || !absl::SimpleAtoi(steps->second, &committed_steps)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a rows file: its metadata lacks head or committed_steps"));
  }
  if (!files_.empty() &&
      (dim != embedding_dim_ || slot_numbers != slot_numbers_ || head->second != head_ || committed_steps != committed_steps_)) {
    return absl::DataLossError(absl::StrCat(path, ": of head ", head->second, " at step ", committed_steps, " with ", dim,
                                            " numbers a row; the files before it are of ", head_, " at ", committed_steps_, " with ",
                                            embedding_dim_));
  }
  file.row_count = ids->info->shape[0];
  file.class_ids = ids->bytes.data();
  file.weights = weights->bytes.data();
  file.slots = slots->bytes.data();
  for (int64_t row = 0; row < file.row_count; ++row) {
    const int64_t before = row == 0 ? -1 : file.IdAt(row - 1);
    if (file.IdAt(row) <= before) {
      return absl::DataLossError(absl::StrCat(path, ": damaged: class id ", file.IdAt(row), " of row ", row, " follows ", before));
    }
  }
  head_ = head->second;
  committed_steps_ = committed_steps;
  embedding_dim_ = dim;
  slot_numbers_ = slot_numbers;
  row_count_ += file.row_count;
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::optional<HeadRowsReader::Row> HeadRowsReader::Find(int64_t class_id) const {
  for (const File& file : files_) {
    int64_t low = 0;
    int64_t high = file.row_count;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (file.IdAt(middle) < class_id) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == file.row_count || file.IdAt(low) != class_id) continue;
    Row row;
    row.weights.resize(embedding_dim_);
    row.slots.resize(slot_numbers_);
    const size_t weight_bytes = row.weights.size() * sizeof(float);
    const size_t slot_bytes = row.slots.size() * sizeof(float);
    std::memcpy(row.weights.data(), file.weights + low * weight_bytes, weight_bytes);
    if (slot_bytes > 0) std::memcpy(row.slots.data(), file.slots + low * slot_bytes, slot_bytes);
    return row;
  }
  return absl::nullopt;
}

}  // namespace myriad
