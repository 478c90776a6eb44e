#include "client/run_saves.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <memory>
#include <system_error>
#include <utility>

#include <google/protobuf/text_format.h>
#include <xxhash.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/file_util.h"
#include "client/text_proto.h"

namespace myriad {

namespace fs = std::filesystem;
using storage::v1::SavedFile;
using storage::v1::SaveManifest;

namespace {

constexpr int kVersion = 1;
constexpr char kPrefix[] = "step-";
constexpr char kManifest[] = "manifest.textproto";
constexpr char kUnfinished[] = "unfinished.textproto";

std::string Print(const SaveManifest& manifest) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(manifest, &text);
  return text;
}

absl::StatusOr<SaveManifest> Read(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  SaveManifest manifest;
  if (absl::Status status = ParseText(*text, path, &manifest); !status.ok()) return status;
  return manifest;
}

// Size and checksum, in bounded memory.
absl::StatusOr<SavedFile> Measure(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<char> buffer(1 << 20);
  SavedFile file;
  absl::Status status;
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) status = ErrnoStatus(errno, path);
    if (count <= 0) break;
    XXH3_64bits_update(state.get(), buffer.data(), static_cast<size_t>(count));
    file.set_bytes(file.bytes() + count);
  }
  ::close(fd);
  if (!status.ok()) return status;
  file.set_xxh3(XXH3_64bits_digest(state.get()));
  return file;
}

}  // namespace

std::string RunSaves::Name(int64_t step) { return absl::StrFormat("%s%010d", kPrefix, step); }

std::string RunSaves::PathOf(const std::string& name) const { return JoinPath(folder_, name); }

std::string RunSaves::PathOf(const std::string& name, const std::string& file) const { return JoinPath(PathOf(name), file); }

absl::StatusOr<std::vector<RunSaves::Entry>> RunSaves::List() const {
  std::vector<Entry> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (!absl::StartsWith(name, kPrefix) || !fs::is_directory(it->path(), ignored)) continue;
    Entry entry;
    entry.name = name;
    entry.made = fs::exists(PathOf(name, kManifest), ignored);
    absl::StatusOr<SaveManifest> manifest = Read(PathOf(name, entry.made ? kManifest : kUnfinished));
    entry.state = manifest.status();
    if (manifest.ok()) entry.manifest = *std::move(manifest);
    entries.push_back(std::move(entry));
  }
  if (error && error != std::errc::no_such_file_or_directory) return ErrnoStatus(error.value(), folder_);
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

absl::StatusOr<SaveManifest> RunSaves::Newest(std::vector<std::string>* refused) const {
  return NewestBefore(std::numeric_limits<int64_t>::max(), refused);
}

absl::StatusOr<SaveManifest> RunSaves::NewestBefore(int64_t step, std::vector<std::string>* refused) const {
  absl::StatusOr<std::vector<Entry>> entries = List();
  if (!entries.ok()) return entries.status();
  refused->clear();
  for (auto entry = entries->rbegin(); entry != entries->rend(); ++entry) {
    int64_t of_step = 0;
    if (!entry->made || !absl::SimpleAtoi(absl::StripPrefix(entry->name, kPrefix), &of_step) || of_step >= step) continue;
    absl::Status status = entry->state;
    if (status.ok()) status = VerifySave(*this, entry->manifest);
    if (status.ok()) return entry->manifest;
    refused->push_back(absl::StrCat("save ", PathOf(entry->name), " is not whole: ", status.message()));
  }
  if (refused->empty()) return absl::NotFoundError(absl::StrCat(folder_, " has no save to go on from"));
  return absl::DataLossError(absl::StrJoin(*refused, "; "));
}

absl::Status RunSaves::Begin(const SaveManifest& plan) const {
  const std::string name = Name(plan.step());
  std::error_code ignored;
  if (fs::exists(PathOf(name, kManifest), ignored)) return absl::FailedPreconditionError(absl::StrCat(PathOf(name), " is a save already"));
  if (absl::Status status = MakeFolders(PathOf(name)); !status.ok()) return status;
  return WriteFileAtomically(PathOf(name, kUnfinished), Print(plan));
}

absl::Status RunSaves::Finish(SaveManifest manifest, absl::Span<const std::string> files) const {
  const std::string name = Name(manifest.step());
  manifest.set_version(kVersion);
  for (const std::string& file : files) {
    absl::StatusOr<SavedFile> measured = Measure(PathOf(name, file));
    if (!measured.ok()) return measured.status();
    measured->set_name(file);
    *manifest.add_files() = *std::move(measured);
  }
  // The folder's own name, then the file that makes it a save.
  if (absl::Status status = SyncFolderOf(PathOf(name)); !status.ok()) return status;
  if (absl::Status status = WriteFileAtomically(PathOf(name, kManifest), Print(manifest)); !status.ok()) return status;
  std::error_code ignored;  // Beside a manifest it means nothing.
  fs::remove(PathOf(name, kUnfinished), ignored);
  return absl::OkStatus();
}

absl::Status RunSaves::Retire(const std::string& name) const {
  std::error_code error;
  if (!fs::exists(PathOf(name, kManifest), error)) return absl::OkStatus();
  fs::rename(PathOf(name, kManifest), PathOf(name, kUnfinished), error);
  if (error) return ErrnoStatus(error.value(), PathOf(name, kManifest));
  return SyncFolderOf(PathOf(name, kManifest));
}

absl::Status RunSaves::Remove(const std::string& name) const {
  std::error_code error;
  fs::remove_all(PathOf(name), error);
  return error ? ErrnoStatus(error.value(), PathOf(name)) : absl::OkStatus();
}

absl::Status VerifySave(const RunSaves& saves, const SaveManifest& manifest) {
  const std::string name = RunSaves::Name(manifest.step());
  if (manifest.version() != kVersion) {
    return absl::UnimplementedError(
        absl::StrCat(saves.PathOf(name, kManifest), " has version ", manifest.version(), "; this program reads ", kVersion));
  }
  for (const SavedFile& file : manifest.files()) {
    const std::string path = saves.PathOf(name, file.name());
    const absl::StatusOr<SavedFile> measured = Measure(path);
    if (!measured.ok()) return absl::DataLossError(measured.status().message());
    if (measured->bytes() != file.bytes()) {
      return absl::DataLossError(absl::StrCat(path, " has ", measured->bytes(), " bytes; the manifest says ", file.bytes()));
    }
    if (measured->xxh3() != file.xxh3()) {
      return absl::DataLossError(absl::StrFormat("%s has checksum %016x; the manifest says %016x", path, measured->xxh3(), file.xxh3()));
    }
  }
  return absl::OkStatus();
}

}  // namespace myriad
