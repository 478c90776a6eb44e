#ifndef MYRIAD_SERVER_STORE_FRESH_TABLES_H_
#define MYRIAD_SERVER_STORE_FRESH_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// The first and the last bytes of a file that is being written.
class TableEnds {
 public:
  // What is kept: a first block; a last one with index and filter, of a table of some 6,000 records.
  static constexpr size_t kFirstBytes = 8 << 10;
  static constexpr size_t kLastBytes = 32 << 10;

  // Writes allocate no more.
  TableEnds() {
    first_.reserve(kFirstBytes);
    last_.reserve(kLastBytes);
  }

  // Follow writes to the file: at its end, or over its last bytes.
  void Put(uint64_t offset, absl::string_view bytes);
  void Append(absl::string_view bytes) { Put(end_, bytes); }
  void Truncate(uint64_t size);

  // As a read of the file: how many of `size` bytes it has there, into `bytes`; nothing if they are not all kept.
  std::optional<size_t> Read(uint64_t offset, size_t size, char* bytes) const;

 private:
  uint64_t end_ = 0;   // Of the file.
  std::string first_;  // From the beginning on.
  std::string last_;   // Up to end_.
};

// Ends of tables that were written outside of the store, to be taken in. RocksDB reads them some six times for that, at both ends and one
// after the other: while a disk is busy with writes these are most of what it takes to take in a table. Thread-safe.
class FreshTables {
 public:
  // How the names of such files begin.
  static constexpr char kPrefix[] = "run-";
  static bool IsFresh(const std::string& path);

  // From when such a file is closed to when it is deleted.
  void Add(const std::string& path, std::shared_ptr<const TableEnds> ends);
  void Remove(const std::string& path);
  // The store knows the file by another name too, from its taking in on.
  void Link(const std::string& path, const std::string& other);

  // Empty once the file is removed, whichever name it was asked for by; so is what is not known.
  std::weak_ptr<const TableEnds> Find(const std::string& path) const;

 private:
  mutable absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<const TableEnds>> tables_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::weak_ptr<const TableEnds>> links_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_FRESH_TABLES_H_
