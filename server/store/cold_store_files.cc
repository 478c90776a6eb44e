#include "server/store/cold_store_files.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/fresh_tables.h"

namespace myriad {
namespace {

using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSRandomAccessFile;
using rocksdb::FSSequentialFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr char kNoSpace[] = "No space left on device";

// RocksDB waits for room by looking at the file system every few seconds; as an error of another kind a full disk is tried again like all
// others. What it was stays in the message.
IOStatus MayPass(IOStatus status) {
  if (!status.IsIOError()) return status;
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::SubCode::kSpaceLimit) {
    status = IOStatus::IOError(status.ToString(), kNoSpace);
  }
  status.SetRetryable(true);
  status.SetScope(IOStatus::IOErrorScope::kIOErrorScopeFile);
  return status;
}

bool IsTable(const std::string& path) { return path.size() > 4 && path.compare(path.size() - 4, 4, ".sst") == 0; }

class WritableFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  enum class Syncs {
    kAtOnce,
    kOnClose,  // At Fsync() or Close() at the latest.
    kNever,
  };
  WritableFile(std::unique_ptr<FSWritableFile> target, ColdStoreTraffic* traffic, Syncs syncs)
      : FSWritableFileOwnerWrapper(std::move(target)), traffic_(traffic), syncs_(syncs) {}

  // Before the first write: `tables` is to have the file's ends once it is closed.
  void KeepEnds(const std::string& path, FreshTables* tables) {
    path_ = path;
    tables_ = tables;
    ends_ = std::make_shared<TableEnds>();
  }

  using FSWritableFileOwnerWrapper::Append;
  using FSWritableFileOwnerWrapper::PositionedAppend;
  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    traffic_->written_bytes += static_cast<int64_t>(data.size());
    if (ends_ != nullptr) ends_->Append({data.data(), data.size()});
    return MayPass(FSWritableFileOwnerWrapper::Append(data, options, debug));
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options, IODebugContext* debug) override {
    traffic_->written_bytes += static_cast<int64_t>(data.size());
    if (ends_ != nullptr) ends_->Put(offset, {data.data(), data.size()});
    return MayPass(FSWritableFileOwnerWrapper::PositionedAppend(data, offset, options, debug));
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    if (ends_ != nullptr) ends_->Truncate(size);
    return MayPass(FSWritableFileOwnerWrapper::Truncate(size, options, debug));
  }
  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    if (owes_sync_) {
      if (IOStatus synced = Fsync(options, debug); !synced.ok()) return synced;
    }
    IOStatus closed = MayPass(FSWritableFileOwnerWrapper::Close(options, debug));
    if (closed.ok() && ends_ != nullptr) tables_->Add(path_, std::move(ends_));
    return closed;
  }
  IOStatus Flush(const IOOptions& options, IODebugContext* debug) override {
    return MayPass(FSWritableFileOwnerWrapper::Flush(options, debug));
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    owes_sync_ = syncs_ == Syncs::kOnClose;
    return syncs_ == Syncs::kAtOnce ? MayPass(FSWritableFileOwnerWrapper::Sync(options, debug)) : IOStatus::OK();
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    if (syncs_ == Syncs::kNever) return IOStatus::OK();
    IOStatus synced = MayPass(FSWritableFileOwnerWrapper::Fsync(options, debug));
    if (synced.ok()) owes_sync_ = false;
    return synced;
  }
  IOStatus RangeSync(uint64_t offset, uint64_t bytes, const IOOptions& options, IODebugContext* debug) override {
    return MayPass(FSWritableFileOwnerWrapper::RangeSync(offset, bytes, options, debug));
  }

 private:
  ColdStoreTraffic* const traffic_;
  const Syncs syncs_;
  bool owes_sync_ = false;
  std::string path_;
  FreshTables* tables_ = nullptr;
  std::shared_ptr<TableEnds> ends_;
};

class RandomAccessFile : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  RandomAccessFile(std::unique_ptr<FSRandomAccessFile> target, ColdStoreTraffic* traffic, std::weak_ptr<const TableEnds> ends)
      : FSRandomAccessFileOwnerWrapper(std::move(target)), traffic_(traffic), ends_(std::move(ends)) {}

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* debug) const override {
    if (const std::shared_ptr<const TableEnds> ends = ends_.lock(); ends != nullptr) {
      if (const std::optional<size_t> count = ends->Read(offset, size, scratch); count) {
        *result = Slice(scratch, *count);
        return IOStatus::OK();
      }
    }
    traffic_->read_bytes += static_cast<int64_t>(size);
    return MayPass(FSRandomAccessFileOwnerWrapper::Read(offset, size, options, result, scratch, debug));
  }
  IOStatus MultiRead(rocksdb::FSReadRequest* reads, size_t count, const IOOptions& options, IODebugContext* debug) override {
    return FSRandomAccessFile::MultiRead(reads, count, options, debug);  // By Read().
  }

 private:
  ColdStoreTraffic* const traffic_;
  const std::weak_ptr<const TableEnds> ends_;
};

class Directory : public rocksdb::FSDirectoryWrapper {
 public:
  using FSDirectoryWrapper::FSDirectoryWrapper;
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override { return MayPass(FSDirectoryWrapper::Fsync(options, debug)); }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug, const rocksdb::DirFsyncOptions& dir_options) override {
    return MayPass(FSDirectoryWrapper::FsyncWithDirOptions(options, debug, dir_options));
  }
};

class ColdStoreFiles : public rocksdb::FileSystemWrapper {
 public:
  ColdStoreFiles(std::shared_ptr<rocksdb::FileSystem> target, ColdStoreTraffic* traffic)
      : FileSystemWrapper(std::move(target)), traffic_(traffic) {}

  static const char* kClassName() { return "MyriadColdStoreFiles"; }
  const char* Name() const override { return kClassName(); }

  // What the file system remembers of folders; without it, each file that is opened for direct I/O asks the system for its sectors.
  rocksdb::Status RegisterDbPaths(const std::vector<std::string>& paths) override { return target()->RegisterDbPaths(paths); }
  rocksdb::Status UnregisterDbPaths(const std::vector<std::string>& paths) override { return target()->UnregisterDbPaths(paths); }

  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& options, std::unique_ptr<FSRandomAccessFile>* result,
                               IODebugContext* debug) override {
    const IOStatus status = target()->NewRandomAccessFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<RandomAccessFile>(std::move(*result), traffic_, fresh_tables_.Find(path));
    return MayPass(status);
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions& options, std::unique_ptr<FSWritableFile>* result,
                           IODebugContext* debug) override {
    const IOStatus status = target()->NewWritableFile(path, options, result, debug);
    const auto syncs = IsTable(path) ? WritableFile::Syncs::kOnClose : WritableFile::Syncs::kAtOnce;
    if (!status.ok()) return MayPass(status);
    auto file = std::make_unique<WritableFile>(std::move(*result), traffic_, syncs);
    if (FreshTables::IsFresh(path)) file->KeepEnds(path, &fresh_tables_);
    *result = std::move(file);
    return status;
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options, std::unique_ptr<FSWritableFile>* result,
                              IODebugContext* debug) override {
    const IOStatus status = target()->ReopenWritableFile(path, options, result, debug);
    const auto syncs = IsTable(path) ? WritableFile::Syncs::kNever : WritableFile::Syncs::kAtOnce;
    if (status.ok()) *result = std::make_unique<WritableFile>(std::move(*result), traffic_, syncs);
    return MayPass(status);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options, std::unique_ptr<FSDirectory>* result,
                        IODebugContext* debug) override {
    const IOStatus status = target()->NewDirectory(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<Directory>(std::move(*result));
    return MayPass(status);
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options, IODebugContext* debug) override {
    const IOStatus status = target()->LinkFile(from, to, options, debug);
    if (status.ok()) fresh_tables_.Link(from, to);
    return status;
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& options, IODebugContext* debug) override {
    fresh_tables_.Remove(path);
    return target()->DeleteFile(path, options, debug);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options, IODebugContext* debug) override {
    return MayPass(target()->RenameFile(from, to, options, debug));
  }

 private:
  ColdStoreTraffic* const traffic_;
  FreshTables fresh_tables_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> MakeColdStoreFiles(std::shared_ptr<rocksdb::FileSystem> target, ColdStoreTraffic* traffic) {
  return std::make_shared<ColdStoreFiles>(std::move(target), traffic);
}

bool SaysDiskFull(const rocksdb::Status& status) { return status.IsNoSpace() || status.ToString().find(kNoSpace) != std::string::npos; }

}  // namespace myriad
