#ifndef MYRIAD_SERVER_STORE_COLD_STORE_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace myriad {

// How records are asked for: by a Get each, by MultiGet, or, where they lie together, by an iterator that reads ahead.
enum class ColdReadBy { kGet, kMultiGet, kIterator };

// How a cold store lays out and reads its files. docs/benchmarks.md measures the choices against each other; the defaults are what came
// out.
struct ColdStoreTuning {
  int64_t block_bytes = 4096;                   // A table's blocks: what reading one record reads.
  bool direct_io = true;                        // Past the system's cache, where the file system can.
  ColdReadBy apart = ColdReadBy::kGet;          // Records that lie apart. No iterator.
  ColdReadBy together = ColdReadBy::kMultiGet;  // Records that lie together: whole parts of a partition.
  bool blob_files = false;                      // Values in BlobDB's files, apart from keys.
  int64_t run_bytes = int64_t{1} << 20;         // Records in a row of as much go past the memtables as a sorted run.
};

// Records of one size on disk (or short ones), each under a key with the number of the step that wrote it: the cold tier of one head on one
// shard, a RocksDB in a folder of its own. Records that were written together, many in a row, lie in order of their keys on the disk, so a
// range of keys is one sequential read; those that were written alone since then lie apart from them, until their range is written together
// again. The upper bits of a key are its partition (row_key.h), and files are cut between partitions.
//
// There is no write-ahead log: records are durable after Flush(), and after a crash those written since may be of an older step. Each
// carries a checksum over its key, its step and its bytes. Thread-safe.
//
// A full disk, a failing one: calls return its error, what was accepted stays in memory, and the store tries again by itself; calls
// succeed again once the cause is gone.
class ColdStore {
 public:
  struct Options {
    std::string folder;        // Made if it is missing; its parent must be there.
    int64_t record_bytes = 0;  // In [1, 2^24]; 0: what the store was made for, which must_exist.
    int io_threads = 16;       // Reads in flight; the queue depth of the disk. In [1, 256].
    ColdStoreTuning tuning{};
    bool must_exist = false;  // A folder that has no store is NOT_FOUND.
  };
  // Files that a store keeps open at most, where the process may have so many and some for others; with fewer, reads open them anew.
  static constexpr int64_t kMostOpenFiles = 16384;
  // Of all calls of WriteEncoded() at a time: so much MemoryBytes() counts for what they keep on its way.
  static constexpr int64_t kMostBytesWrittenAtOnce = int64_t{96} << 20;
  // Table files that are written at a time, of all calls: the queue depth of the disk there.
  static constexpr int kTablesWrittenAtOnce = 8;
  // Added to the step of a record of which only the first bytes are stored (KeepShort()); what follows them is read as zeros.
  static constexpr int64_t kShort = int64_t{1} << 62;
  static bool IsShort(int64_t step) { return step >= kShort; }
  static int64_t StepOf(int64_t step) { return IsShort(step) ? step - kShort : step; }

  // Makes a record shorter, in place: true if it has, with another step. Compactions ask about every record that is not short, on threads
  // of their own.
  using Shortener = std::function<bool(uint64_t key, int64_t* step, std::byte* bytes)>;

  // One record. The bytes are borrowed; of a short one that was read only the first are there.
  struct Record {
    uint64_t key = 0;
    int64_t step = 0;
    const std::byte* bytes = nullptr;
  };
  // One as it is stored (docs/formats.md); the value is borrowed.
  struct Encoded {
    uint64_t key = 0;
    absl::string_view value;
  };
  // Where Read() puts one.
  struct Target {
    uint64_t key = 0;
    std::byte* bytes = nullptr;
    int64_t step = 0;  // Filled in.
  };
  struct Stamp {
    uint64_t key = 0;
    int64_t step = 0;  // As StepOf() has it.
  };
  struct Statistics {
    int64_t record_count_estimate = 0;  // A key counts once for each of its records that merges have not dropped yet.
    int64_t disk_bytes = 0;             // Of all live files.
    int64_t read_bytes = 0;             // Since it was opened, as asked of the file system; compactions included.
    int64_t written_bytes = 0;          // The same of writes.
    int64_t accepted_bytes = 0;         // By WriteEncoded() and Ingest(): written_bytes / accepted_bytes is the write amplification.
    double stall_seconds = 0.0;         // That writers had to wait for compactions.
    int64_t memory_bytes = 0;           // Memtables, index and filters, now.
    int64_t pending_compaction_bytes = 0;
  };

  // Opens or makes the store. Direct I/O where the file system has it, else buffered.
  // Errors: INVALID_ARGUMENT (an option out of range), FAILED_PRECONDITION (another process has it open; made for records of another
  // size; the folder cannot be written to), DATA_LOSS (files are missing or damaged), else those of the system; all name the folder.
  static absl::StatusOr<std::unique_ptr<ColdStore>> Open(const Options& options);
  virtual ~ColdStore() = default;

  // The most memory that a store of so many records takes beside what its callers hold: memtables, index and filters, buffers of reads,
  // compactions and runs in the making. For io_threads and tuning as in `options`, whose folder does not matter.
  static int64_t MemoryBytes(int64_t records, const Options& options);

  // Reads records by several threads at once: those that lie close together with one read of many blocks, the others each by itself.
  // Requires: keys strictly increasing.
  // Errors: DATA_LOSS (a record that is not there or is damaged; names its key), UNAVAILABLE (the disk).
  virtual absl::Status Read(absl::Span<Target> targets) = 0;
  // The key of the record that an error of Read() is about, or the first of those that WriteEncoded() was given.
  static std::optional<uint64_t> KeyOf(const absl::Status& status);

  virtual int64_t record_bytes() const = 0;

  // Puts a record into `value`, which has room for kColdHeaderBytes and record_bytes(): a header, and behind it the record's bytes, all of
  // them. Best done while they are in the processor's cache: they are read twice. Requires: step >= -1.
  virtual Encoded Encode(const Record& record, char* value) const = 0;

  // Writes records over what was there. Blocks while compactions are far behind. Many at once are cheapest, of whole partitions.
  // Requires: keys distinct, and from those of other calls that go on; values of this store's Encode().
  // Errors: RESOURCE_EXHAUSTED (disk full), UNAVAILABLE (the disk), DATA_LOSS (files were found damaged). Some records may be written then,
  // none in part; the same call again is right once the cause is gone.
  virtual absl::Status WriteEncoded(absl::Span<const Encoded> records) = 0;
  // The same of records that are not encoded yet: all of them, into memory that MemoryBytes() does not count.
  absl::Status Write(absl::Span<const Record> records);

  // Writes a whole sorted run past the memtables: each byte once, at the speed of the disk. `next` sets the following record and returns
  // true, or returns false at the end; keys must increase strictly. Durable when it returns.
  // Errors: as WriteEncoded(); INVALID_ARGUMENT (keys out of order). Part of the run may be written then.
  virtual absl::Status Ingest(const std::function<bool(Record* record)>& next) = 0;

  // Visits the records with keys in [first, end) in order, read ahead. The visitor's errors end it.
  // Errors: DATA_LOSS, UNAVAILABLE as Read().
  virtual absl::Status Scan(uint64_t first, uint64_t end, const std::function<absl::Status(const Record& record)>& visit) = 0;

  // Reads every record, several ranges at a time, verifies it and hands its stamp to `visit`: many at once, in order within a call but not
  // from call to call; one call at a time. For opening a store that was not closed. Errors: as Read().
  virtual absl::Status VerifyAll(const std::function<void(absl::Span<const Stamp> stamps)>& visit) = 0;

  // Makes all that was written durable. Errors: as WriteEncoded().
  virtual absl::Status Flush() = 0;

  // A copy of all records as they are, in a new folder on the same file system: hard links. Requires: nothing is written meanwhile.
  // Errors: ALREADY_EXISTS, those of the system.
  virtual absl::Status LinkTo(const std::string& folder) = 0;

  // A small named text beside the records, such as what the rest of the program must know to open them. PutNote() replaces what was there,
  // whole or not at all, and it is durable when it returns; copies by LinkTo() have it too. Errors: as WriteEncoded(): which of the two
  // notes the disk has, or will have, is not known until a later PutNote() returns OK; of those that were accepted the newest stays.
  // GetNote: NOT_FOUND.
  virtual absl::Status PutNote(absl::string_view name, absl::string_view bytes) = 0;
  virtual absl::StatusOr<std::string> GetNote(absl::string_view name) = 0;

  // How many bytes of short records are stored from now on, and who makes them; nullptr: nobody, and no call of the last one is under way.
  virtual void KeepShort(int64_t short_bytes, Shortener shortener) = 0;

  virtual Statistics statistics() const = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_H_
