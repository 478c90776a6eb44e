#include "server/store/cold_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace myriad {
namespace {

constexpr int64_t kMemtableBytes = 32 << 20;
constexpr int kMemtables = 2;
constexpr int64_t kBlockBytes = 16 << 10;
// Step and checksum before a record's bytes.
constexpr size_t kHeaderBytes = 16;
constexpr size_t kKeyBytes = 8;
constexpr int64_t kScanReadAhead = 2 << 20;
// Keys that a thread asks for at a time: enough to share a block's read among neighbours, few enough for all threads to have work.
constexpr size_t kReadGrain = 32;
// Notes are a column family of their own: one of them is flushed without the records. Callers' names come after a prefix.
constexpr char kNotesFamily[] = "notes";
constexpr char kNotePrefix[] = "note/";
constexpr char kSizeKey[] = "record_bytes";

absl::Status FromRocks(const rocksdb::Status& status, const std::string& folder) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(folder, ": ", status.ToString());
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(message);
  if (status.IsIOError() && status.ToString().find("lock") != std::string::npos) {
    return absl::FailedPreconditionError(absl::StrCat(message, "; another server has this store open"));
  }
  return absl::UnavailableError(message);
}

// Big-endian: the order of bytes is the order of numbers.
void EncodeKey(uint64_t key, char* out) {
  for (int i = 7; i >= 0; --i, key >>= 8) out[i] = static_cast<char>(key & 0xff);
}
uint64_t DecodeKey(const rocksdb::Slice& slice) {
  uint64_t key = 0;
  for (size_t i = 0; i < kKeyBytes; ++i) key = key << 8 | static_cast<uint8_t>(slice[i]);
  return key;
}

uint64_t Checksum(uint64_t key, int64_t step, const void* bytes, size_t count) {
  return XXH3_64bits_withSeed(bytes, count, key * 0x9e3779b97f4a7c15u ^ static_cast<uint64_t>(step));
}

class RocksColdStore : public ColdStore {
 public:
  explicit RocksColdStore(const Options& options) : options_(options), value_bytes_(kHeaderBytes + options.record_bytes) {}

  ~RocksColdStore() override {
    if (db_ == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
    db_->Close();
  }

  absl::Status OpenDb() {
    rocksdb::Options rocks;
    rocks.create_if_missing = true;
    rocks.create_missing_column_families = true;
    rocks.write_buffer_size = kMemtableBytes;
    rocks.max_write_buffer_number = kMemtables;
    rocks.compression = rocksdb::kNoCompression;
    rocks.target_file_size_base = 64 << 20;
    rocks.max_bytes_for_level_base = 256 << 20;
    rocks.level_compaction_dynamic_level_bytes = true;
    rocks.optimize_filters_for_hits = true;
    rocks.max_background_jobs = 2;
    rocks.max_open_files = -1;
    rocks.bytes_per_sync = 1 << 20;
    rocks.compaction_readahead_size = kScanReadAhead;
    // Nothing is logged, so nothing may reach the disk out of order either: one flush is one instant.
    rocks.avoid_flush_during_shutdown = true;
    rocks.info_log_level = rocksdb::WARN_LEVEL;
    rocks.keep_log_file_num = 2;
    rocks.statistics = statistics_;
    rocksdb::BlockBasedTableOptions table;
    table.block_size = kBlockBytes;
    // Records that were read go to the slab; a second copy in a cache would take its place.
    table.no_block_cache = true;
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10.0, false));
    table.format_version = 5;
    table.checksum = rocksdb::kxxHash64;
    rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));

    rocks.use_direct_reads = true;
    rocks.use_direct_io_for_flush_and_compaction = true;
    rocksdb::DB* db = nullptr;
    const auto open = [&] {
      return rocksdb::DB::Open(rocks, options_.folder, {{rocksdb::kDefaultColumnFamilyName, rocks}, {kNotesFamily, rocks}}, &families_,
                               &db);
    };
    rocksdb::Status status = open();
    if (!status.ok() && (status.IsNotSupported() || status.IsInvalidArgument())) {
      rocks.use_direct_reads = false;
      rocks.use_direct_io_for_flush_and_compaction = false;
      status = open();
    }
    if (!status.ok()) return FromRocks(status, options_.folder);
    db_.reset(db);
    rocks_ = rocks;
    return CheckSize();
  }

  absl::Status Read(absl::Span<Target> targets) override {
    const size_t parts = (targets.size() + kReadGrain - 1) / kReadGrain;
    const size_t threads = std::min<size_t>(options_.io_threads, parts);
    std::atomic<size_t> next{0};
    std::vector<absl::Status> statuses(std::max<size_t>(threads, 1));
    const auto work = [&](size_t thread) {
      for (size_t part = next++; part < parts && statuses[thread].ok(); part = next++) {
        statuses[thread] = ReadPart(targets.subspan(part * kReadGrain, kReadGrain));
      }
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < threads; ++i) others.emplace_back(work, i);
    work(0);
    for (std::thread& other : others) other.join();
    for (const absl::Status& status : statuses) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Write(absl::Span<const Record> records) override {
    rocksdb::WriteOptions write;
    write.disableWAL = true;
    constexpr size_t kBatch = 512;
    std::string value;
    for (size_t begin = 0; begin < records.size(); begin += kBatch) {
      rocksdb::WriteBatch batch(std::min(kBatch, records.size() - begin) * (value_bytes_ + 32));
      for (const Record& record : records.subspan(begin, kBatch)) {
        char key[kKeyBytes];
        EncodeKey(record.key, key);
        EncodeValue(record, &value);
        batch.Put(rocksdb::Slice(key, kKeyBytes), value);
      }
      const rocksdb::Status status = db_->Write(write, &batch);
      if (!status.ok()) return FromRocks(status, options_.folder);
    }
    accepted_bytes_ += static_cast<int64_t>(records.size()) * options_.record_bytes;
    return absl::OkStatus();
  }

  absl::Status Ingest(const std::function<bool(Record* record)>& next) override {
    // Files of a level's size, so that later compactions move parts of the run and not all of it.
    constexpr uint64_t kFileBytes = 256 << 20;
    std::vector<std::string> files;
    rocksdb::Status status;
    absl::Status order;
    std::unique_ptr<rocksdb::SstFileWriter> writer;
    std::string value;
    Record record;
    int64_t count = 0;
    int64_t file_bytes = 0;
    uint64_t last_key = 0;
    const auto finish = [&] {
      rocksdb::ExternalSstFileInfo info;
      const rocksdb::Status finished = writer->Finish(&info);
      file_bytes += static_cast<int64_t>(info.file_size);
      writer.reset();
      return finished;
    };
    while (status.ok() && order.ok() && next(&record)) {
      if (count > 0 && record.key <= last_key) {
        order = absl::InvalidArgumentError(absl::StrCat("key ", record.key, " follows key ", last_key, "; a run must be sorted"));
        break;
      }
      last_key = record.key;
      if (writer == nullptr) {
        files.push_back(absl::StrCat(options_.folder, "/ingest-", files.size(), ".sst"));
        writer = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(rocks_), rocks_);
        status = writer->Open(files.back());
        if (!status.ok()) break;
      }
      char key[kKeyBytes];
      EncodeKey(record.key, key);
      EncodeValue(record, &value);
      status = writer->Put(rocksdb::Slice(key, kKeyBytes), value);
      ++count;
      if (status.ok() && writer->FileSize() >= kFileBytes) status = finish();
    }
    if (status.ok() && order.ok() && writer != nullptr) status = finish();
    writer.reset();
    if (status.ok() && order.ok() && !files.empty()) {
      rocksdb::IngestExternalFileOptions ingest;
      ingest.move_files = true;
      status = db_->IngestExternalFile(files, ingest);
    }
    for (const std::string& file : files) ::remove(file.c_str());
    if (!order.ok()) return order;
    if (!status.ok()) return FromRocks(status, options_.folder);
    accepted_bytes_ += count * options_.record_bytes;
    ingested_bytes_ += file_bytes;
    return absl::OkStatus();
  }

  absl::Status Scan(uint64_t first, uint64_t end, const std::function<absl::Status(const Record& record)>& visit) override {
    char end_key[kKeyBytes];
    EncodeKey(end, end_key);
    const rocksdb::Slice bound(end_key, kKeyBytes);
    rocksdb::ReadOptions read;
    read.readahead_size = kScanReadAhead;
    read.iterate_upper_bound = &bound;
    const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(read));
    char first_key[kKeyBytes];
    EncodeKey(first, first_key);
    for (iterator->Seek(rocksdb::Slice(first_key, kKeyBytes)); iterator->Valid(); iterator->Next()) {
      Record record;
      record.key = DecodeKey(iterator->key());
      absl::Status status = DecodeValue(record.key, iterator->value(), &record);
      if (status.ok()) status = visit(record);
      if (!status.ok()) return status;
    }
    return FromRocks(iterator->status(), options_.folder);
  }

  absl::Status Flush() override {
    rocksdb::FlushOptions flush;
    flush.wait = true;
    return FromRocks(db_->Flush(flush), options_.folder);
  }

  absl::Status LinkTo(const std::string& folder) override {
    struct stat info;
    if (::stat(folder.c_str(), &info) == 0) return absl::AlreadyExistsError(absl::StrCat(folder, " is there already"));
    rocksdb::Checkpoint* made = nullptr;
    rocksdb::Status status = rocksdb::Checkpoint::Create(db_.get(), &made);
    const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
    if (status.ok()) status = checkpoint->CreateCheckpoint(folder);
    return FromRocks(status, folder);
  }

  absl::Status PutNote(absl::string_view name, absl::string_view bytes) override {
    return PutInNotes(absl::StrCat(kNotePrefix, name), bytes);
  }

  absl::StatusOr<std::string> GetNote(absl::string_view name) override {
    std::string bytes;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), families_[kNotes], absl::StrCat(kNotePrefix, name), &bytes);
    if (status.IsNotFound()) return absl::NotFoundError(absl::StrCat(options_.folder, " has no '", name, "'"));
    if (!status.ok()) return FromRocks(status, options_.folder);
    return bytes;
  }

  Statistics statistics() const override {
    const auto property = [&](const std::string& name) {
      uint64_t value = 0;
      db_->GetIntProperty(name, &value);
      return static_cast<int64_t>(value);
    };
    const auto ticker = [&](rocksdb::Tickers which) { return static_cast<int64_t>(statistics_->getTickerCount(which)); };
    Statistics result;
    result.record_count_estimate = property(rocksdb::DB::Properties::kEstimateNumKeys);
    result.disk_bytes = property(rocksdb::DB::Properties::kLiveSstFilesSize);
    result.read_bytes = read_bytes_ + ticker(rocksdb::COMPACT_READ_BYTES);
    result.written_bytes = ticker(rocksdb::FLUSH_WRITE_BYTES) + ticker(rocksdb::COMPACT_WRITE_BYTES) + ingested_bytes_;
    result.accepted_bytes = accepted_bytes_;
    result.stall_seconds = static_cast<double>(ticker(rocksdb::STALL_MICROS)) * 1e-6;
    result.memory_bytes =
        property(rocksdb::DB::Properties::kSizeAllMemTables) + property(rocksdb::DB::Properties::kEstimateTableReadersMem);
    result.pending_compaction_bytes = property(rocksdb::DB::Properties::kEstimatePendingCompactionBytes);
    return result;
  }

 private:
  absl::Status CheckSize() {
    std::string stored;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), families_[kNotes], kSizeKey, &stored);
    const std::string wanted = absl::StrCat(options_.record_bytes);
    if (status.IsNotFound()) return PutInNotes(kSizeKey, wanted);
    if (!status.ok()) return FromRocks(status, options_.folder);
    if (stored == wanted) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(options_.folder, ": has records of ", stored, " bytes; this head's have ", wanted,
                                                      " (embedding_dim, dtypes or slots differ)"));
  }

  absl::Status PutInNotes(const std::string& key, absl::string_view bytes) {
    rocksdb::WriteOptions write;
    write.disableWAL = true;
    rocksdb::Status status = db_->Put(write, families_[kNotes], key, rocksdb::Slice(bytes.data(), bytes.size()));
    if (status.ok()) status = db_->Flush(rocksdb::FlushOptions(), families_[kNotes]);
    return FromRocks(status, options_.folder);
  }

  void EncodeValue(const Record& record, std::string* value) const {
    value->resize(value_bytes_);
    const uint64_t checksum = Checksum(record.key, record.step, record.bytes, options_.record_bytes);
    std::memcpy(value->data(), &record.step, 8);
    std::memcpy(value->data() + 8, &checksum, 8);
    std::memcpy(value->data() + kHeaderBytes, record.bytes, options_.record_bytes);
  }

  absl::Status DecodeValue(uint64_t key, const rocksdb::Slice& value, Record* record) const {
    if (value.size() != value_bytes_) {
      return absl::DataLossError(absl::StrCat(options_.folder, ": record ", key, " has ", value.size(), " bytes, not ", value_bytes_));
    }
    uint64_t checksum = 0;
    std::memcpy(&record->step, value.data(), 8);
    std::memcpy(&checksum, value.data() + 8, 8);
    record->bytes = reinterpret_cast<const std::byte*>(value.data() + kHeaderBytes);
    if (checksum != Checksum(key, record->step, record->bytes, options_.record_bytes)) {
      return absl::DataLossError(absl::StrCat(options_.folder, ": record ", key, " is damaged: its checksum is wrong"));
    }
    return absl::OkStatus();
  }

  // At most kReadGrain records.
  absl::Status ReadPart(absl::Span<Target> targets) {
    char keys[kReadGrain][kKeyBytes];
    rocksdb::Slice slices[kReadGrain];
    rocksdb::PinnableSlice values[kReadGrain];
    rocksdb::Status statuses[kReadGrain];
    for (size_t i = 0; i < targets.size(); ++i) {
      EncodeKey(targets[i].key, keys[i]);
      slices[i] = rocksdb::Slice(keys[i], kKeyBytes);
    }
    rocksdb::ReadOptions read;
    read.fill_cache = false;
    db_->MultiGet(read, db_->DefaultColumnFamily(), targets.size(), slices, values, statuses, /*sorted_input=*/true);
    for (size_t i = 0; i < targets.size(); ++i) {
      if (statuses[i].IsNotFound()) {
        return absl::DataLossError(absl::StrCat(options_.folder, ": record ", targets[i].key, " is missing"));
      }
      if (!statuses[i].ok()) return FromRocks(statuses[i], options_.folder);
      Record record;
      absl::Status status = DecodeValue(targets[i].key, values[i], &record);
      if (!status.ok()) return status;
      std::memcpy(targets[i].bytes, record.bytes, options_.record_bytes);
      targets[i].step = record.step;
    }
    read_bytes_ += static_cast<int64_t>(targets.size() * value_bytes_);
    return absl::OkStatus();
  }

  const Options options_;
  const size_t value_bytes_;
  const std::shared_ptr<rocksdb::Statistics> statistics_ = rocksdb::CreateDBStatistics();
  rocksdb::Options rocks_;
  std::unique_ptr<rocksdb::DB> db_;
  static constexpr int kNotes = 1;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;  // Records, notes.
  std::atomic<int64_t> accepted_bytes_{0};
  std::atomic<int64_t> ingested_bytes_{0};
  std::atomic<int64_t> read_bytes_{0};
};

}  // namespace

absl::StatusOr<std::unique_ptr<ColdStore>> ColdStore::Open(const Options& options) {
  if (options.record_bytes < 1 || options.record_bytes > (int64_t{1} << 24)) {
    return absl::InvalidArgumentError(absl::StrCat("record_bytes is ", options.record_bytes, "; it must be in [1, 2^24]"));
  }
  if (options.io_threads < 1 || options.io_threads > 256) {
    return absl::InvalidArgumentError(absl::StrCat("io_threads is ", options.io_threads, "; it must be in [1, 256]"));
  }
  auto store = std::make_unique<RocksColdStore>(options);
  if (absl::Status status = store->OpenDb(); !status.ok()) return status;
  return store;
}

}  // namespace myriad
