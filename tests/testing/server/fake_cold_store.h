#ifndef MYRIAD_TESTS_TESTING_SERVER_FAKE_COLD_STORE_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAKE_COLD_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/store/cold_store.h"

namespace myriad {

// A disk that is a map in memory, for cold stores that are closed and opened again over it. It outlives them. A hook can make any call
// slow, or fail. Thread-safe.
class FakeDisk {
 public:
  enum class Call { kRead, kWrite, kIngest, kScan, kFlush, kLinkTo, kPutNote, kGetNote };
  // Runs before each call, on the thread that makes it, and may wait there. The call does nothing but return its error, if it has one.
  using Hook = std::function<absl::Status(Call call)>;
  struct StoredRecord {
    int64_t step = 0;
    std::vector<std::byte> bytes;
    bool operator==(const StoredRecord& other) const { return step == other.step && bytes == other.bytes; }
  };
  using Records = std::map<uint64_t, StoredRecord>;

  explicit FakeDisk(int64_t record_bytes) : record_bytes_(record_bytes) {}

  // A store of what is here, as ColdStore::Open() gives it.
  std::unique_ptr<ColdStore> Open();

  // For calls that begin from now on; nullptr: none.
  void SetHook(Hook hook);

  // Asks the shortener of the store that is open, if it has one, about every record.
  void Compact();

  // What is written, and what of it a crash would leave: what was there at the last Flush() or Ingest().
  Records records() const;
  Records durable() const;

 private:
  class Store;

  absl::Status Begin(Call call) const;

  const int64_t record_bytes_;
  mutable absl::Mutex mu_;
  Hook hook_ ABSL_GUARDED_BY(mu_);
  ColdStore::Shortener shortener_ ABSL_GUARDED_BY(mu_);
  Records records_ ABSL_GUARDED_BY(mu_);
  Records durable_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> notes_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAKE_COLD_STORE_H_
