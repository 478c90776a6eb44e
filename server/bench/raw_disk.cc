#include "server/bench/raw_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

// What direct I/O asks of offsets and sizes, and of memory.
constexpr int64_t kSector = 512;
constexpr int64_t kPage = 4096;
// Small reads that a thread makes at a time; large ones go one by one.
constexpr int64_t kGrain = 8;
constexpr int64_t kLargeRead = 64 << 10;

int64_t Up(int64_t bytes) { return (bytes + kSector - 1) / kSector * kSector; }
int64_t Down(int64_t bytes) { return bytes / kSector * kSector; }

absl::Status Errno(const std::string& path) { return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno))); }

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Free>;
Buffer AlignedBuffer(int64_t bytes) {
  Buffer buffer(static_cast<char*>(std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage)));
  std::memset(buffer.get(), 7, bytes);
  return buffer;
}

// Open files by path.
class Files {
 public:
  ~Files() {
    for (const auto& [path, file] : open_) ::close(file);
  }
  absl::StatusOr<int> Open(const std::string& path, int flags) {
    const auto found = open_.find(path);
    if (found != open_.end()) return found->second;
    int file = ::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC, 0644);
    if (file < 0 && errno == EINVAL) file = ::open(path.c_str(), flags | O_CLOEXEC, 0644);  // Such as tmpfs.
    if (file < 0) return Errno(path);
    open_[path] = file;
    return file;
  }

 private:
  std::map<std::string, int> open_;
};

absl::Status FirstError(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool IsTableWrite(const FileAccess& access) { return access.is_write && absl::EndsWith(access.path, ".sst"); }

}  // namespace

int64_t BytesRead(absl::Span<const FileAccess> trace) {
  int64_t bytes = 0;
  for (const FileAccess& access : trace) bytes += access.is_write ? 0 : access.bytes;
  return bytes;
}

int64_t TableBytesWritten(absl::Span<const FileAccess> trace) {
  int64_t bytes = 0;
  for (const FileAccess& access : trace) bytes += IsTableWrite(access) ? access.bytes : 0;
  return bytes;
}

absl::StatusOr<double> ReplayReads(absl::Span<const FileAccess> trace, IoPool* pool) {
  Files files;
  struct Read {
    int file;
    int64_t offset;
    int64_t bytes;
  };
  std::vector<Read> reads;
  int64_t largest = 0;
  for (const FileAccess& access : trace) {
    if (access.is_write) continue;
    const absl::StatusOr<int> file = files.Open(access.path, O_RDONLY);
    if (!file.ok()) return file.status();
    const int64_t offset = Down(access.offset);
    reads.push_back({*file, offset, Up(access.offset + access.bytes) - offset});
    largest = std::max(largest, reads.back().bytes);
  }
  const int64_t grain = largest >= kLargeRead ? 1 : kGrain;
  const int64_t parts = (static_cast<int64_t>(reads.size()) + grain - 1) / grain;
  std::vector<absl::Status> statuses(parts);
  const absl::Time start = absl::Now();
  pool->Run(parts, [&](int64_t part) {
    thread_local Buffer buffer;
    thread_local int64_t buffer_bytes = 0;
    if (buffer_bytes < largest) {
      buffer = AlignedBuffer(largest);
      buffer_bytes = largest;
    }
    for (const Read& read : absl::MakeSpan(reads).subspan(part * grain, grain)) {
      // Fewer bytes at the end of a file.
      if (::pread(read.file, buffer.get(), read.bytes, read.offset) < 0) statuses[part] = Errno("pread");
    }
  });
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (absl::Status status = FirstError(statuses); !status.ok()) return status;
  return seconds;
}

absl::StatusOr<double> ReplayTableWrites(absl::Span<const FileAccess> trace, const std::string& folder, IoPool* pool) {
  std::vector<std::vector<const FileAccess*>> files;
  std::map<std::string, size_t> index;
  int64_t largest = 1;
  for (const FileAccess& access : trace) {
    if (!IsTableWrite(access)) continue;
    const auto [found, is_new] = index.emplace(access.path, files.size());
    if (is_new) files.emplace_back();
    files[found->second].push_back(&access);
    largest = std::max(largest, Up(access.bytes));
  }
  const Buffer buffer = AlignedBuffer(largest);
  std::vector<absl::Status> statuses(files.size());
  const auto path_of = [&](int64_t i) { return absl::StrCat(folder, "/raw-", i); };
  const absl::Time start = absl::Now();
  pool->Run(files.size(), [&](int64_t i) {
    Files opened;
    const absl::StatusOr<int> file = opened.Open(path_of(i), O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) {
      statuses[i] = file.status();
      return;
    }
    for (const FileAccess* access : files[i]) {
      const int64_t bytes = Up(access->bytes);
      if (::pwrite(*file, buffer.get(), bytes, Down(access->offset)) != bytes) statuses[i] = Errno(path_of(i));
    }
    if (::fdatasync(*file) != 0) statuses[i] = Errno(path_of(i));
  });
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  for (size_t i = 0; i < files.size(); ++i) ::unlink(path_of(i).c_str());
  if (absl::Status status = FirstError(statuses); !status.ok()) return status;
  return seconds;
}

}  // namespace myriad
