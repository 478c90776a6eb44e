#ifndef MYRIAD_SERVER_STORE_STORED_HEADS_H_
#define MYRIAD_SERVER_STORE_STORED_HEADS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

// The folders in which a server keeps its heads: STORE/heads/NAME. One that is to take another's place is made in STORE/restoring/NAME;
// while they change places, the old one lies in STORE/replaced/NAME, and whenever the server is killed one of the two is found again.
// Calls for one head come one at a time; else thread-safe.
class StoredHeads {
 public:
  // `store` need not exist. Empty: heads are kept in memory alone, and no other call is made.
  explicit StoredHeads(std::string store) : store_(std::move(store)) {}
  ~StoredHeads();
  StoredHeads(const StoredHeads&) = delete;
  StoredHeads& operator=(const StoredHeads&) = delete;

  // False: in memory alone.
  bool kept() const { return !store_.empty(); }
  std::string PathOf(const std::string& head) const;
  // Where a folder for PutInPlace() is made; its parent is there after Recover().
  std::string PathOfNext(const std::string& head) const;

  // The folder at PathOfNext(), whole and durable, becomes that of the head; what the head had is gone. Nobody has either open. Errors:
  // those of the system: the head has its old folder, or the new one.
  absl::Status PutInPlace(const std::string& head) const;

  // Before any other call of a process: takes the store for this object as long as it lives, and finishes or takes back what a process that
  // was killed has left half-done. The folders of heads, in the order of names.
  // Errors: FAILED_PRECONDITION (another process has the store); those of the system.
  absl::StatusOr<std::vector<std::string>> Recover();

 private:
  absl::Status Lock();
  std::string Under(const char* folder, const std::string& head) const;

  const std::string store_;
  int lock_ = -1;  // The open file STORE/lock.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_STORED_HEADS_H_
