#include "server/store/cold_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/utilities/checkpoint.h>

#include "absl/functional/function_ref.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/store/cold_read_plan.h"
#include "server/store/cold_record.h"
#include "server/store/cold_store_families.h"
#include "server/store/cold_store_files.h"
#include "server/store/cold_store_health.h"
#include "server/store/cold_store_options.h"
#include "server/store/cold_store_rocksdb.h"
#include "server/store/cold_store_runs.h"
#include "server/store/cold_store_shortener.h"
#include "server/store/cold_store_slices.h"
#include "server/store/cold_write_plan.h"
#include "server/store/fresh_tables.h"
#include "server/store/io_pool.h"

namespace myriad {
namespace {

// Ranges that VerifyAll() makes of a store, about.
constexpr size_t kVerifyRanges = 64;
constexpr size_t kStampsAtOnce = 4096;
// Records of one write batch.
constexpr size_t kBatch = 512;
// Parts of an ingested run on their way at a time: one fills, the others are built into files.
constexpr int64_t kChunkBytes = 16 << 20;
constexpr int kChunks = 3;
// How long a writer waits for news of compactions before it looks for itself.
constexpr absl::Duration kLookAgain = absl::Milliseconds(50);
// Notes are a column family of their own: one of them is flushed without the records. Callers' names come after a prefix.
constexpr char kNotesFamily[] = "notes";
constexpr char kNotePrefix[] = "note/";
constexpr char kSizeKey[] = "record_bytes";
// Of a status that is about one record: its key.
constexpr char kKeyPayload[] = "myriad/record_key";
// Column families: records in stretches, notes, scattered records.
enum { kStretches, kNotes, kScattered };
constexpr char kScatteredFamily[] = "scattered";

absl::Status FromRocks(const rocksdb::Status& status, const std::string& folder) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  const auto says = [&](absl::string_view what) { return absl::StrContains(text, what); };
  const std::string message = absl::StrCat(folder, ": ", text);
  const bool file_is_gone = says("While open") && says("No such file or directory");
  if (status.IsCorruption() || file_is_gone) return absl::DataLossError(message);
  if (SaysDiskFull(status)) return absl::ResourceExhaustedError(message);
  if (says("While lock file") || says("lock hold by current process")) {
    return absl::FailedPreconditionError(absl::StrCat(message, "; another server has this store open"));
  }
  if (says("Permission denied") || says("Read-only file system")) {
    return absl::FailedPreconditionError(absl::StrCat(message, "; the server must be able to write there"));
  }
  return absl::UnavailableError(message);
}

// The cache is for those who take in tables: records go to the slab, and a second copy of them would take its place.
rocksdb::ReadOptions PastCache() {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  return read;
}

// For ColdStore::KeyOf().
void SetKey(uint64_t key, absl::Status* status) { status->SetPayload(kKeyPayload, absl::Cord(absl::StrCat(key))); }

class RocksColdStore : public ColdStore {
 public:
  explicit RocksColdStore(const Options& options)
      : options_(options), value_bytes_(kColdHeaderBytes + options.record_bytes), pool_(options.io_threads) {}

  ~RocksColdStore() override {
    if (db_ == nullptr) return;
    runs_.reset();
    records_.reset();
    for (rocksdb::ColumnFamilyHandle* family : families_) db_->DestroyColumnFamilyHandle(family);
    db_->Close();
  }

  absl::Status OpenDb(std::shared_ptr<rocksdb::FileSystem> files) {
    env_ = rocksdb::NewCompositeEnv(MakeColdStoreFiles(std::move(files), &traffic_));
    // Merges have time, the steps beside them have none: on a machine whose processors all compute, merges take what is left over. Those
    // that fall behind hold up writes (AwaitCompactions()), then steps, and have the processors to themselves.
    env_->LowerThreadPoolCPUPriority(rocksdb::Env::LOW, rocksdb::CpuPriority::kLow).PermitUncheckedError();  // Where it can be done.
    rocksdb::Options rocks = ColdRocksOptions(options_);
    rocks.env = env_.get();
    rocks.listeners.push_back(health_);
    rocks.compaction_filter = &shortener_;
    rocksdb::DB* db = nullptr;
    const auto open = [&](bool direct) {
      rocks.use_direct_reads = direct;
      rocks.use_direct_io_for_flush_and_compaction = direct;
      return rocksdb::DB::Open(rocks, options_.folder,
                               {{rocksdb::kDefaultColumnFamilyName, rocks},
                                {kNotesFamily, NoteFamilyOptions(rocks)},
                                {kScatteredFamily, ScatteredFamilyOptions(rocks)}},
                               &families_, &db);
    };
    rocksdb::Status status = open(options_.tuning.direct_io);
    if (options_.tuning.direct_io && (status.IsNotSupported() || status.IsInvalidArgument())) status = open(false);
    if (options_.must_exist && status.IsInvalidArgument()) {
      return absl::NotFoundError(absl::StrCat(options_.folder, ": there is no store: ", status.ToString()));
    }
    if (!status.ok()) return FromRocks(status, options_.folder);
    db_.reset(db);
    if (status = ColdStoreRuns::RemoveLeftovers(env_.get(), options_.folder); !status.ok()) return FromRocks(status, options_.folder);
    if (absl::Status size = CheckSize(); !size.ok()) return size;
    records_.emplace(db, families_[kStretches], families_[kScattered]);
    runs_.emplace(db, &*records_, rocks, options_.folder, value_bytes_);
    return absl::OkStatus();
  }

  absl::Status Read(absl::Span<Target> targets) override {
    const std::vector<ColdReadPart> parts = PlanColdRead(targets, value_bytes_, MostTogether());
    std::vector<absl::Status> statuses(parts.size());
    pool_.Run(parts.size(), [&](int64_t i) {
      const absl::Span<Target> part = targets.subspan(parts[i].begin, parts[i].end - parts[i].begin);
      statuses[i] = ReadPart(parts[i].together ? options_.tuning.together : options_.tuning.apart, part);
    });
    for (const absl::Status& status : statuses) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  int64_t record_bytes() const override { return options_.record_bytes; }

  Encoded Encode(const Record& record, char* value) const override {
    std::memcpy(value + kColdHeaderBytes, record.bytes, options_.record_bytes);
    const int64_t bytes = shortener_.BytesOf(record.step, options_.record_bytes);
    SealColdValue(record.key, record.step, bytes, value);
    return {record.key, {value, static_cast<size_t>(kColdHeaderBytes + bytes)}};
  }

  absl::Status WriteEncoded(absl::Span<const Encoded> records) override {
    const ColdWritePlan plan = PlanColdWrite(records, value_bytes_, options_.tuning.run_bytes, kMemtableBytes);
    absl::Status status = plan.past_memtables ? WriteRun(plan) : WriteToMemtables(plan.scattered);
    if (status.ok()) {
      accepted_bytes_ += static_cast<int64_t>(records.size()) * options_.record_bytes;
    } else {
      SetKey(records.front().key, &status);
    }
    return status;
  }

  absl::Status Ingest(const std::function<bool(Record* record)>& next) override {
    // While one chunk fills, others are built into files.
    struct Chunk {
      std::vector<Encoded> records;
      std::vector<char> values;
      std::future<absl::Status> done;
    };
    const int64_t capacity = std::max<int64_t>(1, kChunkBytes / value_bytes_);
    const absl::StatusOr<bool> is_empty = IsEmpty();
    if (!is_empty.ok()) return is_empty.status();
    ColdStoreRuns::FirstRun first_run(&*runs_);  // The chunks end before it.
    Chunk chunks[kChunks];
    for (Chunk& chunk : chunks) {
      chunk.records.reserve(capacity);
      chunk.values.resize(capacity * value_bytes_);
    }
    Chunk* filling = &chunks[0];
    uint64_t last_key = 0;
    bool any = false;
    absl::Status status;
    // Sends off the chunk that is full; the next one to fill is the oldest that was sent.
    const auto send = [&] {
      filling->done = std::async(std::launch::async, [&, full = filling] {
        absl::Status added = *is_empty ? FromRocks(first_run.Add(full->records), options_.folder)
                                       : WriteRun(PlanColdWrite(full->records, value_bytes_, /*run_bytes=*/0, /*memtable_bytes=*/0));
        if (added.ok()) accepted_bytes_ += static_cast<int64_t>(full->records.size()) * options_.record_bytes;
        return added;
      });
      filling = filling == &chunks[kChunks - 1] ? &chunks[0] : filling + 1;
      const absl::Status done = filling->done.valid() ? filling->done.get() : absl::OkStatus();
      filling->records.clear();
      return done;
    };
    for (Record record; status.ok() && next(&record);) {
      if (any && record.key <= last_key) {
        status = absl::InvalidArgumentError(absl::StrCat("key ", record.key, " follows key ", last_key, "; a run must be sorted"));
        break;
      }
      // Chunks end with a partition where they can: files do.
      const int64_t count = static_cast<int64_t>(filling->records.size());
      const bool new_partition = any && record.key >> kRowKeyIndexBits != last_key >> kRowKeyIndexBits;
      if (count == capacity || (new_partition && count * value_bytes_ >= kChunkBytes * 3 / 4)) status = send();
      any = true;
      last_key = record.key;
      char* const value = filling->values.data() + static_cast<int64_t>(filling->records.size()) * value_bytes_;
      filling->records.push_back(Encode(record, value));
    }
    if (status.ok() && !filling->records.empty()) status = send();
    for (Chunk& chunk : chunks) {
      if (!chunk.done.valid()) continue;
      const absl::Status done = chunk.done.get();
      if (status.ok()) status = done;
    }
    const absl::Status finished = FromRocks(first_run.Finish(), options_.folder);
    return status.ok() ? finished : status;
  }

  absl::Status Scan(uint64_t first, uint64_t end, const std::function<absl::Status(const Record& record)>& visit) override {
    return ScanRange(first, end, visit);
  }

  absl::Status VerifyAll(const std::function<void(absl::Span<const Stamp> stamps)>& visit) override {
    const std::vector<uint64_t> bounds = VerifyBounds();
    const int64_t ranges = static_cast<int64_t>(bounds.size()) - 1;
    std::vector<absl::Status> statuses(ranges);
    absl::Mutex visiting;
    pool_.Run(ranges, [&](int64_t i) {
      std::vector<Stamp> stamps;
      const auto hand_over = [&] {
        absl::MutexLock lock(&visiting);
        visit(stamps);
        stamps.clear();
      };
      statuses[i] = ScanRange(bounds[i], bounds[i + 1], [&](const Record& record) {
        stamps.push_back({record.key, StepOf(record.step)});
        if (stamps.size() == kStampsAtOnce) hand_over();
        return absl::OkStatus();
      });
      hand_over();
    });
    for (const absl::Status& status : statuses) {
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Flush() override { return FlushFamily(families_[kScattered]); }  // The others hold nothing back.

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

  void KeepShort(int64_t short_bytes, Shortener shortener) override { shortener_.Set(short_bytes, std::move(shortener)); }

  Statistics statistics() const override {
    using Properties = rocksdb::DB::Properties;
    Statistics result;
    result.record_count_estimate = records_->Property(Properties::kEstimateNumKeys);
    result.disk_bytes = records_->Property(Properties::kLiveSstFilesSize) + records_->Property(Properties::kLiveBlobFileSize);
    result.read_bytes = traffic_.read_bytes;
    result.written_bytes = traffic_.written_bytes;
    result.accepted_bytes = accepted_bytes_;
    result.stall_seconds = static_cast<double>(stall_nanoseconds_) * 1e-9;
    result.memory_bytes = records_->Property(Properties::kSizeAllMemTables) + records_->Property(Properties::kEstimateTableReadersMem);
    result.pending_compaction_bytes = records_->Property(Properties::kEstimatePendingCompactionBytes);
    return result;
  }

 private:
  absl::Status CheckSize() {
    std::string stored;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), families_[kNotes], kSizeKey, &stored);
    if (status.ok() && options_.record_bytes == 0 && absl::SimpleAtoi(stored, &options_.record_bytes)) {
      value_bytes_ = kColdHeaderBytes + options_.record_bytes;
      return absl::OkStatus();
    }
    if (options_.record_bytes == 0) return absl::NotFoundError(absl::StrCat(options_.folder, ": its records have no size yet"));
    const std::string wanted = absl::StrCat(options_.record_bytes);
    if (status.IsNotFound()) return PutInNotes(kSizeKey, wanted);
    if (!status.ok()) return FromRocks(status, options_.folder);
    if (stored == wanted) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(options_.folder, ": has records of ", stored, " bytes; this head's have ", wanted,
                                                      " (embedding_dim, dtypes or slots differ)"));
  }

  absl::Status PutInNotes(const std::string& key, absl::string_view bytes) {
    rocksdb::WriteBatch batch;
    const rocksdb::Status status = batch.Put(families_[kNotes], key, SliceOf(bytes));
    if (!status.ok()) return FromRocks(status, options_.folder);
    if (absl::Status written = WriteBatch(&batch); !written.ok()) return written;
    return FlushFamily(families_[kNotes]);
  }

  absl::Status FlushFamily(rocksdb::ColumnFamilyHandle* family) {
    rocksdb::FlushOptions flush;
    flush.allow_write_stall = true;  // Else it would wait for compactions, for ever on a full disk.
    const rocksdb::Status status = db_->Flush(flush, family);
    return FromRocks(status, options_.folder);
  }

  absl::Status Decode(uint64_t key, const rocksdb::Slice& value, Record* record) const {
    const int64_t bytes = static_cast<int64_t>(value.size()) - kColdHeaderBytes;
    const bool may_be_short = bytes >= 0 && bytes < options_.record_bytes && IsShort(StepOfColdValue(value.data()));
    if (bytes != options_.record_bytes && !may_be_short) {
      return absl::DataLossError(absl::StrCat(options_.folder, ": record ", key, " has ", value.size(), " bytes, not ", value_bytes_));
    }
    *record = {key, 0, reinterpret_cast<const std::byte*>(value.data() + kColdHeaderBytes)};
    if (!DecodeColdValue(key, value.data(), bytes, &record->step)) {
      return absl::DataLossError(absl::StrCat(options_.folder, ": record ", key, " is damaged: its checksum is wrong"));
    }
    return absl::OkStatus();
  }

  // Puts a record where it is wanted, or says what became of it.
  absl::Status Deliver(const rocksdb::Status& status, const rocksdb::Slice& value, Target* target) const {
    absl::Status delivered = TryToDeliver(status, value, target);
    if (!delivered.ok()) SetKey(target->key, &delivered);
    return delivered;
  }

  absl::Status TryToDeliver(const rocksdb::Status& status, const rocksdb::Slice& value, Target* target) const {
    if (status.IsNotFound()) return absl::DataLossError(absl::StrCat(options_.folder, ": record ", target->key, " is missing"));
    if (!status.ok()) return FromRocks(status, absl::StrCat(options_.folder, ": record ", target->key));
    Record record;
    if (absl::Status decoded = Decode(target->key, value, &record); !decoded.ok()) return decoded;
    const int64_t bytes = static_cast<int64_t>(value.size()) - kColdHeaderBytes;
    std::memcpy(target->bytes, record.bytes, bytes);
    std::memset(target->bytes + bytes, 0, options_.record_bytes - bytes);
    target->step = record.step;
    return absl::OkStatus();
  }

  int64_t MostTogether() const {
    switch (options_.tuning.together) {
      case ColdReadBy::kMultiGet: return kColdRecordsTogether;
      case ColdReadBy::kIterator: return std::numeric_limits<int64_t>::max();  // kColdRangeBytes alone ends a part.
      case ColdReadBy::kGet: break;
    }
    return 0;
  }

  absl::Status ReadPart(ColdReadBy by, absl::Span<Target> targets) const {
    switch (by) {
      case ColdReadBy::kMultiGet: return ReadArray(targets);
      case ColdReadBy::kIterator: return ReadRange(targets);
      case ColdReadBy::kGet: break;
    }
    return ReadEach(targets);
  }

  absl::Status ReadEach(absl::Span<Target> targets) const {
    rocksdb::PinnableSlice value;
    for (Target& target : targets) {
      value.Reset();
      const rocksdb::Status status = records_->Get(PastCache(), ColdKey(target.key).slice(), &value);
      if (absl::Status delivered = Deliver(status, value, &target); !delivered.ok()) return delivered;
    }
    return absl::OkStatus();
  }

  // Requires: at most kColdRecordsTogether.
  absl::Status ReadArray(absl::Span<Target> targets) const {
    static_assert(kColdRecordsTogether <= ColdStoreFamilies::kMostKeys);
    ColdKey keys[kColdRecordsTogether];
    rocksdb::Slice slices[kColdRecordsTogether];
    rocksdb::PinnableSlice values[kColdRecordsTogether];
    rocksdb::Status statuses[kColdRecordsTogether];
    for (size_t i = 0; i < targets.size(); ++i) {
      keys[i] = ColdKey(targets[i].key);
      slices[i] = keys[i].slice();
    }
    records_->MultiGet(PastCache(), targets.size(), slices, values, statuses);
    for (size_t i = 0; i < targets.size(); ++i) {
      if (absl::Status delivered = Deliver(statuses[i], values[i], &targets[i]); !delivered.ok()) return delivered;
    }
    return absl::OkStatus();
  }

  absl::Status ReadRange(absl::Span<Target> targets) const {
    const ColdKey end(targets.back().key + 1);
    const rocksdb::Slice bound = end.slice();
    rocksdb::ReadOptions read = PastCache();
    // The whole range in one read, or nearly.
    read.readahead_size = (targets.back().key - targets.front().key + 1) * (value_bytes_ + kColdKeyBytes + 8);
    read.iterate_upper_bound = &bound;
    ColdStoreFamilies::Iterator iterator = records_->NewIterator(read);
    iterator.Seek(ColdKey(targets.front().key).slice());
    for (Target& target : targets) {
      uint64_t key = 0;
      for (; iterator.Valid() && (key = DecodeColdKey(iterator.key().data())) < target.key; iterator.Next()) continue;
      const bool found = iterator.Valid() && key == target.key;
      const rocksdb::Status status = !iterator.status().ok() ? iterator.status()
                                     : found                 ? rocksdb::Status::OK()
                                                             : rocksdb::Status::NotFound();
      if (absl::Status delivered = Deliver(status, found ? iterator.value() : rocksdb::Slice(), &target); !delivered.ok()) return delivered;
    }
    return absl::OkStatus();
  }

  absl::Status ScanRange(uint64_t first, uint64_t end, absl::FunctionRef<absl::Status(const Record& record)> visit) const {
    const ColdKey end_key(end);
    const rocksdb::Slice bound = end_key.slice();
    rocksdb::ReadOptions read = PastCache();
    read.adaptive_readahead = true;  // Of those files alone that have many records in a row.
    read.iterate_upper_bound = &bound;
    ColdStoreFamilies::Iterator iterator = records_->NewIterator(read);
    uint64_t last = first;
    for (iterator.Seek(ColdKey(first).slice()); iterator.Valid(); iterator.Next()) {
      Record record;
      last = DecodeColdKey(iterator.key().data());
      absl::Status status = Decode(last, iterator.value(), &record);
      if (status.ok()) status = visit(record);
      if (!status.ok()) return status;
    }
    return FromRocks(iterator.status(), absl::StrCat(options_.folder, ": after record ", last));
  }

  absl::StatusOr<bool> IsEmpty() const {
    ColdStoreFamilies::Iterator iterator = records_->NewIterator(PastCache());
    iterator.Seek(ColdKey(0).slice());
    if (!iterator.status().ok()) return FromRocks(iterator.status(), options_.folder);
    return !iterator.Valid();
  }

  // Begins of ranges of about as many bytes, and the end.
  std::vector<uint64_t> VerifyBounds() const {
    std::vector<rocksdb::LiveFileMetaData> files;
    db_->GetLiveFilesMetaData(&files);
    std::vector<uint64_t> begins;
    for (const rocksdb::LiveFileMetaData& file : files) {
      if (file.column_family_name != kNotesFamily) begins.push_back(DecodeColdKey(file.smallestkey.data()));
    }
    std::sort(begins.begin(), begins.end());
    const size_t stride = begins.size() / kVerifyRanges + 1;
    std::vector<uint64_t> bounds = {0};
    for (size_t i = stride; i < begins.size(); i += stride) {
      if (begins[i] > bounds.back()) bounds.push_back(begins[i]);
    }
    bounds.push_back(std::numeric_limits<uint64_t>::max());
    return bounds;
  }

  absl::Status WriteRun(const ColdWritePlan& plan) {
    if (absl::Status status = AwaitCompactions(); !status.ok()) return status;
    return FromRocks(runs_->Add(plan.stretches, plan.scattered), options_.folder);
  }

  absl::Status WriteToMemtables(absl::Span<const Encoded> records) {
    for (size_t begin = 0; begin < records.size(); begin += kBatch) {
      rocksdb::WriteBatch batch(std::min(kBatch, records.size() - begin) * (value_bytes_ + 32));
      for (const Encoded& record : records.subspan(begin, kBatch)) {
        const rocksdb::Status status = batch.Put(families_[kScattered], ColdKey(record.key).slice(), SliceOf(record.value));
        if (!status.ok()) return FromRocks(status, options_.folder);
      }
      if (absl::Status status = WriteBatch(&batch); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Waits while memtables are full and compactions behind, but not for a disk that fails.
  absl::Status WriteBatch(rocksdb::WriteBatch* batch) {
    rocksdb::WriteOptions write;
    write.disableWAL = true;
    write.no_slowdown = true;
    const absl::Time start = absl::Now();
    while (true) {
      const rocksdb::Status status = db_->Write(write, batch);
      if (!status.IsIncomplete()) {
        stall_nanoseconds_ += absl::ToInt64Nanoseconds(absl::Now() - start);
        return FromRocks(status, options_.folder);
      }
      if (const rocksdb::Status error = health_->error(); !error.ok()) return FromRocks(error, options_.folder);
      health_->AwaitNews(kLookAgain);
    }
  }

  // Of the family that has more.
  int NewestFiles() const {
    int most = 0;
    for (rocksdb::ColumnFamilyHandle* family : {families_[kStretches], families_[kScattered]}) {
      std::string count;
      int files = 0;
      if (db_->GetProperty(family, absl::StrCat(rocksdb::DB::Properties::kNumFilesAtLevelPrefix, 0), &count) &&
          absl::SimpleAtoi(count, &files)) {
        most = std::max(most, files);
      }
    }
    return most;
  }

  absl::Status AwaitCompactions() {
    const absl::Time start = absl::Now();
    while (NewestFiles() >= kMostNewestFiles) {
      if (const rocksdb::Status error = health_->error(); !error.ok()) return FromRocks(error, options_.folder);
      health_->AwaitNews(kLookAgain);
    }
    stall_nanoseconds_ += absl::ToInt64Nanoseconds(absl::Now() - start);
    return absl::OkStatus();
  }

  Options options_;  // The record size may be known only once the store is open.
  int64_t value_bytes_;
  ColdStoreShortener shortener_;  // The database uses it.
  ColdStoreTraffic traffic_;
  const std::shared_ptr<ColdStoreHealth> health_ = std::make_shared<ColdStoreHealth>();
  IoPool pool_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  std::optional<ColdStoreFamilies> records_;
  std::optional<ColdStoreRuns> runs_;
  std::atomic<int64_t> accepted_bytes_{0};
  std::atomic<int64_t> stall_nanoseconds_{0};
};

}  // namespace

absl::Status ColdStore::Write(absl::Span<const Record> records) {
  const size_t value_bytes = kColdHeaderBytes + record_bytes();
  std::vector<char> values(records.size() * value_bytes);
  std::vector<Encoded> encoded;
  encoded.reserve(records.size());
  for (const Record& record : records) encoded.push_back(Encode(record, values.data() + encoded.size() * value_bytes));
  return WriteEncoded(encoded);
}

std::optional<uint64_t> ColdStore::KeyOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kKeyPayload);
  uint64_t key = 0;
  return payload && absl::SimpleAtoi(std::string(*payload), &key) ? std::make_optional(key) : std::nullopt;
}

int64_t ColdStore::MemoryBytes(int64_t records, const Options& options) {
  const int64_t value_bytes = kColdHeaderBytes + options.record_bytes;
  // An index has an entry a block, a filter some bits a record. Some records lie in upper levels again; in the end all may be scattered
  // too, of which all levels have filters. An entry takes half of what is counted for it.
  const int64_t blocks = records / std::max<int64_t>(1, options.tuning.block_bytes / value_bytes) + 1;
  constexpr int64_t kIndexEntryBytes = 14;
  const int64_t tables = (blocks * kIndexEntryBytes + 2 * records * kFilterBitsPerRecord / 8) * 5 / 4;
  constexpr int64_t kOpenFileBytes = 12 << 10;
  constexpr int64_t kNewestFiles = kMostNewestFiles + kNewestFilesOnTheirWay;
  const int64_t files = records * value_bytes / kLeastTableBytes * 5 / 4 + 2 * kNewestFiles;  // Of both families.
  const int64_t memtables = kMemtables * kMemtableBytes * 5 / 4;
  // What is read at once, and its blocks one by one.
  const int64_t reads = options.io_threads * 2 * std::max(kColdRangeBytes + 2 * options.tuning.block_bytes, 2 * value_bytes);
  // A compaction reads its inputs ahead and writes one table; the newest files are inputs of one at a time.
  const int64_t compactions = kNewestFiles * kCompactionReadAhead + kTableWriteBuffer * 2;
  // The last file of each run may be a small one, and one has its scattered records.
  const int64_t runs_at_once = kMostBytesWrittenAtOnce / std::max(kLeastPartitionBytes, options.tuning.run_bytes) + kChunks;
  const int64_t fresh_tables =
      (kMostBytesWrittenAtOnce + kChunks * kChunkBytes) / kLeastTableBytes + 2 * runs_at_once + ColdStoreRuns::FirstRun::kTables;
  const int64_t runs = kBlockCacheBytes + kChunks * kChunkBytes + kTablesWrittenAtOnce * 2 * kTableWriteBuffer +
                       fresh_tables * static_cast<int64_t>(TableEnds::kFirstBytes + TableEnds::kLastBytes);
  return tables + files * kOpenFileBytes + memtables + reads + compactions + runs;
}

absl::StatusOr<std::unique_ptr<ColdStore>> OpenColdStoreOn(std::shared_ptr<rocksdb::FileSystem> files, const ColdStore::Options& options) {
  const bool as_made = options.record_bytes == 0 && options.must_exist;
  if ((options.record_bytes < 1 && !as_made) || options.record_bytes > (int64_t{1} << 24)) {
    return absl::InvalidArgumentError(absl::StrCat("record_bytes is ", options.record_bytes, "; it must be in [1, 2^24]"));
  }
  if (options.io_threads < 1 || options.io_threads > 256) {
    return absl::InvalidArgumentError(absl::StrCat("io_threads is ", options.io_threads, "; it must be in [1, 256]"));
  }
  if (options.tuning.apart == ColdReadBy::kIterator)
    return absl::InvalidArgumentError("records that lie apart are not read by an iterator");
  auto store = std::make_unique<RocksColdStore>(options);
  if (absl::Status status = store->OpenDb(std::move(files)); !status.ok()) return status;
  return store;
}

absl::StatusOr<std::unique_ptr<ColdStore>> ColdStore::Open(const Options& options) {
  return OpenColdStoreOn(rocksdb::FileSystem::Default(), options);
}

}  // namespace myriad
