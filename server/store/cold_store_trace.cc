#include "server/store/cold_store_trace.h"

#include <string>
#include <utility>
#include <vector>

#include <rocksdb/file_system.h>

#include "server/store/cold_store_rocksdb.h"

namespace myriad {
namespace {

using rocksdb::FileOptions;
using rocksdb::FSRandomAccessFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

class TracedReads : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  TracedReads(std::unique_ptr<FSRandomAccessFile> target, std::string path, ColdStoreTrace* trace)
      : FSRandomAccessFileOwnerWrapper(std::move(target)), path_(std::move(path)), trace_(trace) {}

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* debug) const override {
    trace_->Add({path_, static_cast<int64_t>(offset), static_cast<int64_t>(size), false});
    return FSRandomAccessFileOwnerWrapper::Read(offset, size, options, result, scratch, debug);
  }
  IOStatus MultiRead(rocksdb::FSReadRequest* reads, size_t count, const IOOptions& options, IODebugContext* debug) override {
    return FSRandomAccessFile::MultiRead(reads, count, options, debug);  // By Read().
  }

 private:
  const std::string path_;
  ColdStoreTrace* const trace_;
};

class TracedWrites : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  TracedWrites(std::unique_ptr<FSWritableFile> target, std::string path, ColdStoreTrace* trace)
      : FSWritableFileOwnerWrapper(std::move(target)), path_(std::move(path)), trace_(trace) {}

  using FSWritableFileOwnerWrapper::Append;
  using FSWritableFileOwnerWrapper::PositionedAppend;
  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    trace_->Add({path_, end_, static_cast<int64_t>(data.size()), true});
    end_ += static_cast<int64_t>(data.size());
    return FSWritableFileOwnerWrapper::Append(data, options, debug);
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options, IODebugContext* debug) override {
    trace_->Add({path_, static_cast<int64_t>(offset), static_cast<int64_t>(data.size()), true});
    return FSWritableFileOwnerWrapper::PositionedAppend(data, offset, options, debug);
  }

 private:
  const std::string path_;
  ColdStoreTrace* const trace_;
  int64_t end_ = 0;
};

class TracedFiles : public rocksdb::FileSystemWrapper {
 public:
  explicit TracedFiles(ColdStoreTrace* trace) : FileSystemWrapper(rocksdb::FileSystem::Default()), trace_(trace) {}
  static const char* kClassName() { return "MyriadTracedFiles"; }
  const char* Name() const override { return kClassName(); }

  // As ColdStoreFiles has it: what is measured asks the system no more than what is used.
  rocksdb::Status RegisterDbPaths(const std::vector<std::string>& paths) override { return target()->RegisterDbPaths(paths); }
  rocksdb::Status UnregisterDbPaths(const std::vector<std::string>& paths) override { return target()->UnregisterDbPaths(paths); }

  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& options, std::unique_ptr<FSRandomAccessFile>* result,
                               IODebugContext* debug) override {
    IOStatus status = target()->NewRandomAccessFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<TracedReads>(std::move(*result), path, trace_);
    return status;
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions& options, std::unique_ptr<FSWritableFile>* result,
                           IODebugContext* debug) override {
    IOStatus status = target()->NewWritableFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<TracedWrites>(std::move(*result), path, trace_);
    return status;
  }

 private:
  ColdStoreTrace* const trace_;
};

}  // namespace

void ColdStoreTrace::Start() {
  absl::MutexLock lock(&mu_);
  on_ = true;
  accesses_.clear();
}

std::vector<FileAccess> ColdStoreTrace::Stop() {
  absl::MutexLock lock(&mu_);
  on_ = false;
  return std::move(accesses_);
}

void ColdStoreTrace::Add(FileAccess access) {
  absl::MutexLock lock(&mu_);
  if (on_) accesses_.push_back(std::move(access));
}

absl::StatusOr<std::unique_ptr<ColdStore>> OpenTracedColdStore(const ColdStore::Options& options, ColdStoreTrace* trace) {
  return OpenColdStoreOn(std::make_shared<TracedFiles>(trace), options);
}

}  // namespace myriad
