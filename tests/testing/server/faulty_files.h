#ifndef MYRIAD_TESTS_TESTING_SERVER_FAULTY_FILES_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAULTY_FILES_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <rocksdb/file_system.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// A disk that fails on demand: asks a hook before each access to a file.
class FaultyFiles : public rocksdb::FileSystemWrapper {
 public:
  enum class Access { kRead, kWrite, kSync, kCreate };
  using Hook = std::function<rocksdb::IOStatus(Access access, const std::string& path)>;

  FaultyFiles() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  static const char* kClassName() { return "FaultyFiles"; }
  const char* Name() const override { return kClassName(); }

  // For accesses from now on; nullptr: all is well.
  void SetHook(Hook hook) {
    absl::MutexLock lock(&mu_);
    hook_ = std::move(hook);
  }
  rocksdb::IOStatus Ask(Access access, const std::string& path) const {
    absl::MutexLock lock(&mu_);
    return hook_ == nullptr ? rocksdb::IOStatus::OK() : hook_(access, path);
  }

  rocksdb::IOStatus NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result, rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = target()->NewRandomAccessFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<Reads>(std::move(*result), path, this);
    return status;
  }
  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result, rocksdb::IODebugContext* debug) override {
    if (rocksdb::IOStatus status = Ask(Access::kCreate, path); !status.ok()) return status;
    rocksdb::IOStatus status = target()->NewWritableFile(path, options, result, debug);
    if (status.ok()) *result = std::make_unique<Writes>(std::move(*result), path, this);
    return status;
  }

 private:
  class Reads : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    Reads(std::unique_ptr<rocksdb::FSRandomAccessFile> target, std::string path, const FaultyFiles* files)
        : FSRandomAccessFileOwnerWrapper(std::move(target)), path_(std::move(path)), files_(files) {}
    rocksdb::IOStatus Read(uint64_t offset, size_t size, const rocksdb::IOOptions& options, rocksdb::Slice* result, char* scratch,
                           rocksdb::IODebugContext* debug) const override {
      if (rocksdb::IOStatus status = files_->Ask(Access::kRead, path_); !status.ok()) return status;
      return FSRandomAccessFileOwnerWrapper::Read(offset, size, options, result, scratch, debug);
    }

   private:
    const std::string path_;
    const FaultyFiles* const files_;
  };

  class Writes : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    Writes(std::unique_ptr<rocksdb::FSWritableFile> target, std::string path, const FaultyFiles* files)
        : FSWritableFileOwnerWrapper(std::move(target)), path_(std::move(path)), files_(files) {}
    using FSWritableFileOwnerWrapper::Append;
    using FSWritableFileOwnerWrapper::PositionedAppend;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
      if (rocksdb::IOStatus status = files_->Ask(Access::kWrite, path_); !status.ok()) return status;
      return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    rocksdb::IOStatus PositionedAppend(const rocksdb::Slice& data, uint64_t offset, const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* debug) override {
      if (rocksdb::IOStatus status = files_->Ask(Access::kWrite, path_); !status.ok()) return status;
      return FSWritableFileOwnerWrapper::PositionedAppend(data, offset, options, debug);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
      if (rocksdb::IOStatus status = files_->Ask(Access::kSync, path_); !status.ok()) return status;
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* debug) override {
      if (rocksdb::IOStatus status = files_->Ask(Access::kSync, path_); !status.ok()) return status;
      return FSWritableFileOwnerWrapper::Fsync(options, debug);
    }

   private:
    const std::string path_;
    const FaultyFiles* const files_;
  };

  mutable absl::Mutex mu_;
  Hook hook_ ABSL_GUARDED_BY(mu_);
};

inline rocksdb::IOStatus DiskFull(FaultyFiles::Access access, const std::string& path) {
  return access == FaultyFiles::Access::kRead ? rocksdb::IOStatus::OK()
                                              : rocksdb::IOStatus::NoSpace("While appending to file: " + path, "No space left on device");
}
inline rocksdb::IOStatus WritesFail(FaultyFiles::Access access, const std::string& path) {
  return access == FaultyFiles::Access::kRead ? rocksdb::IOStatus::OK()
                                              : rocksdb::IOStatus::IOError("While appending to file: " + path, "Input/output error");
}
inline rocksdb::IOStatus ReadsFail(FaultyFiles::Access access, const std::string& path) {
  return access == FaultyFiles::Access::kRead ? rocksdb::IOStatus::IOError("While pread: " + path, "Input/output error")
                                              : rocksdb::IOStatus::OK();
}

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAULTY_FILES_H_
