#include "server/bench/bench_store.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/partitions.h"
#include "server/bench/bench_hot_rows.h"
#include "server/bench/measured.h"
#include "server/bench/raw_disk.h"
#include "server/store/cold_store_trace.h"
#include "server/store/direct_write.h"
#include "server/store/huge_pages.h"
#include "server/store/io_pool.h"
#include "server/store/memory_division.h"
#include "server/store/row_codec.h"
#include "server/store/row_key.h"
#include "server/store/row_loader.h"
#include "server/store/write_back_queue.h"
#include "version.h"

namespace myriad {
namespace {

constexpr int64_t kSequentialBytes = int64_t{1} << 30;
// Of a write-back at least: a rate takes many batches of the queue, of which some are copied, some built and some taken in at a time.
constexpr int64_t kWriteBackBytes = int64_t{512} << 20;
constexpr absl::Duration kQuiet = absl::Milliseconds(300);

HeadSpec HeadOf(const BenchStoreOptions& options) {
  HeadSpec head;
  head.name = "bench";
  head.class_count = options.rows;
  head.embedding_dim = options.dim;
  head.weight_dtype = head.slot_dtype = options.dtype;
  return head;
}

const char* NameOf(DataType dtype) { return dtype == DataType::kFloat32 ? "float32" : "bf16"; }
const char* NameOf(ColdReadBy by) { return by == ColdReadBy::kGet ? "get" : by == ColdReadBy::kMultiGet ? "multiget" : "iterator"; }

struct Amplification {
  std::string pattern;
  double written_per_accepted = 0.0;
  double rows_per_second = 0.0;  // Compactions included.
  double stall_seconds = 0.0;
  double cpu_seconds_per_gigabyte = 0.0;  // Of this process, a gigabyte accepted.
};

struct Figures {
  std::vector<Measured> measured;
  std::vector<Amplification> amplification;
  double ingest_bytes_per_second = 0.0;
  double ingest_ratio = 0.0;          // Over the rate of writing one file directly, front to back.
  double ingest_written_ratio = 0.0;  // Bytes written over bytes of records.
  int64_t memory_bytes = 0;
  int64_t memory_bound_bytes = 0;
};

class StoreBench {
 public:
  StoreBench(const BenchStoreOptions& options, std::string folder)
      : options_(options),
        folder_(std::move(folder)),
        head_(HeadOf(options)),
        codec_(head_),
        partitions_(options.rows, head_.seed, head_.partition_count),
        raw_reads_(options.io_threads),
        raw_writes_(ColdStore::kTablesWrittenAtOnce),
        random_(1) {}

  absl::Status Run(Figures* figures) {
    if (absl::Status status = MakeRoom(); !status.ok()) return status;
    store_options_.folder = folder_ + "/rows";
    store_options_.record_bytes = codec_.record_bytes();
    store_options_.io_threads = options_.io_threads;
    store_options_.tuning = options_.tuning;
    absl::StatusOr<std::unique_ptr<ColdStore>> store = OpenTracedColdStore(store_options_, &trace_);
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    const absl::StatusOr<MemoryDivision> division = DivideMemory(head_, options_.rows, /*memory_bytes=*/0);
    if (!division.ok()) return division.status();
    queue_.emplace(store_.get(), division->queue_records);
    for (const auto& step :
         {&StoreBench::Load, &StoreBench::FetchAtRandom, &StoreBench::FetchPartitions, &StoreBench::WriteBack, &StoreBench::Churn}) {
      if (options_.should_stop && options_.should_stop()) return absl::CancelledError("interrupted");
      if (absl::Status status = (this->*step)(figures); !status.ok()) return status;
    }
    figures->memory_bytes = store_->statistics().memory_bytes;
    figures->memory_bound_bytes = ColdStore::MemoryBytes(options_.rows, store_options_);
    return absl::OkStatus();
  }

 private:
  using Targets = std::vector<ColdStore::Target>;

  absl::Status Load(Figures* figures) {
    std::vector<double> sequential;
    const auto write_raw = [&]() -> absl::Status {
      const absl::StatusOr<double> seconds = WriteDirectly(folder_, kSequentialBytes);
      if (seconds.ok()) sequential.push_back(*seconds);
      return seconds.status();
    };
    if (absl::Status status = write_raw(); !status.ok()) return status;
    const int64_t written_before = store_->statistics().written_bytes;
    const absl::Time start = absl::Now();
    // What BlobDB keeps apart it takes from memtables alone.
    const absl::Status ingested = options_.tuning.blob_files ? LoadThroughMemtables() : Ingest();
    if (!ingested.ok()) return ingested;
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (absl::Status status = write_raw(); !status.ok()) return status;
    const auto data = static_cast<double>(options_.rows * codec_.record_bytes());
    figures->ingest_bytes_per_second = data / seconds;
    figures->ingest_ratio = data / seconds * (sequential[0] + sequential[1]) / 2 / kSequentialBytes;
    figures->ingest_written_ratio = static_cast<double>(store_->statistics().written_bytes - written_before) / data;
    return absl::OkStatus();
  }

  absl::Status Ingest() {
    Partitions::Place place{0, 0};
    std::vector<std::byte> bytes(codec_.record_bytes());
    return store_->Ingest([&](ColdStore::Record* record) {
      while (place.partition < head_.partition_count && place.index == partitions_.size(place.partition)) place = {place.partition + 1, 0};
      if (place.partition == head_.partition_count) return false;
      codec_.EncodeVirtual(partitions_.ClassAt(place), bytes.data());
      *record = {static_cast<uint64_t>(KeyOfPlace(place)), -1, bytes.data()};
      ++place.index;
      return true;
    });
  }

  absl::Status LoadThroughMemtables() {
    for (int32_t partition = 0; partition < head_.partition_count; ++partition) {
      if (absl::Status status = store_->Write(RecordsOf(KeysOf(partition), -1)); !status.ok()) return status;
    }
    const absl::Status flushed = store_->Flush();
    Settle();
    return flushed;
  }

  // Requires: keys of rows that were not written back.
  absl::Status CheckRows(const Targets& targets) const {
    std::vector<std::byte> expected(codec_.record_bytes());
    for (const ColdStore::Target& target : targets) {
      codec_.EncodeVirtual(partitions_.ClassAt(PlaceOfKey(static_cast<RowKey>(target.key))), expected.data());
      if (std::memcmp(expected.data(), target.bytes, expected.size()) != 0 || target.step != -1) {
        return absl::InternalError(absl::StrCat("record ", target.key, " is not what was written"));
      }
    }
    return absl::OkStatus();
  }

  // As a slab has them.
  absl::Status MakeRoom() {
    int64_t largest = 0;
    for (int32_t p = 0; p < head_.partition_count; ++p) largest = std::max(largest, partitions_.size(p));
    const int64_t records = std::max<int64_t>(options_.fetch_rows, largest * WriteBackPartitions());
    room_ = HugePages(records * codec_.record_bytes());
    if (room_.data() != nullptr) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", records, " rows at a time; ask for fewer (--partitions)"));
  }
  std::byte* RoomOf(size_t record) { return reinterpret_cast<std::byte*>(room_.data()) + record * codec_.record_bytes(); }

  // Targets of the keys, from the beginning of room_ on.
  Targets TargetsOf(const std::vector<uint64_t>& keys) {
    Targets targets;
    for (size_t i = 0; i < keys.size(); ++i) targets.push_back({keys[i], RoomOf(i), 0});
    return targets;
  }

  std::vector<uint64_t> RandomKeys(int64_t count) {
    std::set<uint64_t> keys;
    std::uniform_int_distribution<int64_t> any(0, options_.rows - 1);
    while (static_cast<int64_t>(keys.size()) < count) keys.insert(KeyOfPlace(partitions_.Locate(any(random_))));
    return {keys.begin(), keys.end()};
  }

  int64_t WriteBackPartitions() const {
    const int64_t partition_bytes = std::max<int64_t>(1, options_.rows * codec_.record_bytes() / head_.partition_count);
    return std::min<int64_t>(head_.partition_count, std::max(options_.partitions, kWriteBackBytes / partition_bytes));
  }

  std::vector<int32_t> RandomPartitions(int64_t count) {
    std::vector<int32_t> all(head_.partition_count);
    for (int32_t p = 0; p < head_.partition_count; ++p) all[p] = p;
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(count);
    return all;
  }

  std::vector<uint64_t> KeysOf(int32_t partition) const {
    std::vector<uint64_t> keys;
    for (int64_t i = 0; i < partitions_.size(partition); ++i) keys.push_back(KeyOfPlace({partition, i}));
    return keys;
  }

  // As a head's loader reads partitions that a pool wants: small ones together.
  std::vector<std::vector<uint64_t>> KeysReadTogether(const std::vector<int32_t>& partitions) const {
    const int64_t most_rows = RowLoader::kBytesTogether / codec_.record_bytes();
    std::vector<std::vector<uint64_t>> groups;
    for (const int32_t partition : partitions) {
      const std::vector<uint64_t> keys = KeysOf(partition);
      if (groups.empty() || static_cast<int64_t>(groups.back().size() + keys.size()) > most_rows) groups.emplace_back();
      groups.back().insert(groups.back().end(), keys.begin(), keys.end());
    }
    for (std::vector<uint64_t>& keys : groups) std::sort(keys.begin(), keys.end());
    return groups;
  }

  // Reads each group by one call; then so does the raw disk, what the store had asked for.
  absl::Status Fetch(const std::vector<Targets>& groups, Measured* measured) {
    std::vector<std::vector<FileAccess>> traces;
    for (Targets targets : groups) {  // Once unmeasured: whatever lies below has seen all of it when either is timed.
      trace_.Start();
      const absl::Status status = store_->Read(absl::MakeSpan(targets));
      traces.push_back(trace_.Stop());
      if (!status.ok()) return status;
      if (absl::Status same = CheckRows(targets); !same.ok()) return same;
    }
    measured->rows = measured->bytes = measured->bound_bytes = 0;
    double seconds = 0.0;
    for (size_t i = 0; i < groups.size(); ++i) {
      measured->rows += static_cast<int64_t>(groups[i].size());
      measured->bound_bytes += BytesRead(traces[i]);
      const absl::StatusOr<double> raw = ReplayReads(traces[i], &raw_reads_);
      if (!raw.ok()) return raw.status();
      seconds += *raw;
    }
    measured->bytes = measured->rows * codec_.record_bytes();
    measured->bound_seconds.push_back(seconds);
    return measured->Time([&]() -> absl::Status {
      for (Targets targets : groups) {
        if (absl::Status status = store_->Read(absl::MakeSpan(targets)); !status.ok()) return status;
      }
      return absl::OkStatus();
    });
  }

  absl::Status FetchAtRandom(Figures* figures) {
    Measured measured{"random fetch", "the same preads"};
    for (int round = 0; round < options_.rounds; ++round) {
      if (absl::Status status = Fetch({TargetsOf(RandomKeys(options_.fetch_rows))}, &measured); !status.ok()) return status;
    }
    figures->measured.push_back(measured);
    return absl::OkStatus();
  }

  absl::Status FetchPartitions(Figures* figures) {
    Measured measured{"partition fetch", "the same preads"};
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<Targets> groups;
      // All into one place: the rows of a call are looked at before the next comes.
      for (const std::vector<uint64_t>& keys : KeysReadTogether(RandomPartitions(options_.partitions))) groups.push_back(TargetsOf(keys));
      if (absl::Status status = Fetch(groups, &measured); !status.ok()) return status;
    }
    figures->measured.push_back(measured);
    return absl::OkStatus();
  }

  std::vector<ColdStore::Record> RecordsOf(const std::vector<uint64_t>& keys, int64_t step) {
    std::vector<ColdStore::Record> records;
    for (size_t i = 0; i < keys.size(); ++i) {
      std::byte* const bytes = RoomOf(i);
      codec_.EncodeVirtual(partitions_.ClassAt(PlaceOfKey(static_cast<RowKey>(keys[i]))), bytes);
      records.push_back({keys[i], step, bytes});
    }
    return records;
  }

  // As a head without a limit to its memory does. In the store when it returns.
  absl::Status WriteThroughQueue(absl::Span<const ColdStore::Record> records) {
    for (const ColdStore::Record& record : records) {
      if (absl::Status status = queue_->Add(static_cast<RowKey>(record.key), record.step, record.bytes); !status.ok()) return status;
    }
    return queue_->Drain();
  }

  absl::Status WriteBack(Figures* figures) {
    Measured measured{"partition write-back", "the same files, synced"};
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<uint64_t> keys;
      for (const int32_t partition : RandomPartitions(WriteBackPartitions())) {
        for (const uint64_t key : KeysOf(partition)) keys.push_back(key);
      }
      const std::vector<ColdStore::Record> records = RecordsOf(keys, round);
      trace_.Start();
      const absl::Status status = measured.Time([&]() -> absl::Status {
        if (absl::Status written = WriteThroughQueue(records); !written.ok()) return written;
        return store_->Flush();
      });
      if (!status.ok()) return status;
      const std::vector<FileAccess> trace = trace_.Stop();
      Settle();
      const absl::StatusOr<double> raw = ReplayTableWrites(trace, folder_, &raw_writes_);
      if (!raw.ok()) return raw.status();
      measured.bound_seconds.push_back(*raw);
      measured.rows = static_cast<int64_t>(records.size());
      measured.bytes = measured.rows * codec_.record_bytes();
      measured.bound_bytes = TableBytesWritten(trace);
    }
    figures->measured.push_back(measured);
    return absl::OkStatus();
  }

  // Until compactions rest.
  void Settle() {
    for (int64_t written = -1, now = 0; written != now || store_->statistics().pending_compaction_bytes > 0;) {
      written = store_->statistics().written_bytes;
      absl::SleepFor(kQuiet);
      now = store_->statistics().written_bytes;
    }
  }

  // The keys of the next write-back of a pattern: whole partitions, rows from anywhere, or what a pool gives up: a partition, and a row
  // from anywhere for each four of its rows, which were positives.
  struct Pattern {
    const char* name;
    std::function<std::vector<std::vector<uint64_t>>()> next;
  };

  absl::Status Churn(Figures* figures) {
    if (options_.churn <= 0.0) return absl::OkStatus();
    const auto rows = static_cast<int64_t>(options_.churn * options_.rows);
    std::vector<int32_t> coming;
    const Pattern patterns[] = {
        {"a pool's rows",
         [&]() -> std::vector<std::vector<uint64_t>> {
           if (coming.empty()) coming = RandomPartitions(options_.partitions);
           const std::vector<uint64_t> partition = KeysOf(coming.back());
           coming.pop_back();
           return {partition, RandomKeys(static_cast<int64_t>(partition.size()) / 4)};
         }},
        {"whole partitions",
         [&]() -> std::vector<std::vector<uint64_t>> {
           std::vector<uint64_t> keys;
           for (const int32_t partition : RandomPartitions(options_.partitions)) {
             for (const uint64_t key : KeysOf(partition)) keys.push_back(key);
           }
           return {keys};
         }},
        {"rows from anywhere", [&]() -> std::vector<std::vector<uint64_t>> { return {RandomKeys(options_.fetch_rows)}; }},
    };
    for (const Pattern& pattern : patterns) {
      const ColdStore::Statistics before = store_->statistics();
      const absl::Time start = absl::Now();
      const double cpu_before = CpuSeconds();
      int64_t written = 0;
      for (int64_t step = 0; written < rows; ++step) {
        for (const std::vector<uint64_t>& keys : pattern.next()) {
          const std::vector<ColdStore::Record> records = RecordsOf(keys, step);
          if (absl::Status status = WriteThroughQueue(records); !status.ok()) return status;
          written += static_cast<int64_t>(keys.size());
        }
        if (options_.should_stop && options_.should_stop()) return absl::CancelledError("interrupted");
      }
      if (absl::Status status = store_->Flush(); !status.ok()) return status;
      Settle();
      const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
      const ColdStore::Statistics after = store_->statistics();
      const auto accepted = static_cast<double>(after.accepted_bytes - before.accepted_bytes);
      figures->amplification.push_back({pattern.name, static_cast<double>(after.written_bytes - before.written_bytes) / accepted,
                                        static_cast<double>(written) / seconds, after.stall_seconds - before.stall_seconds,
                                        (CpuSeconds() - cpu_before) / accepted * 1e9});
    }
    return absl::OkStatus();
  }

  const BenchStoreOptions options_;
  const std::string folder_;
  const HeadSpec head_;
  const RowCodec codec_;
  const Partitions partitions_;
  IoPool raw_reads_;  // The same depths of the disk's queue as the store's.
  IoPool raw_writes_;
  std::mt19937_64 random_;
  ColdStoreTrace trace_;
  ColdStore::Options store_options_;
  std::unique_ptr<ColdStore> store_;
  std::optional<WriteBackQueue> queue_;
  HugePages room_;  // Of the rows that are read or written.
};

nlohmann::ordered_json ToJson(const BenchStoreOptions& options, const Figures& figures) {
  nlohmann::ordered_json json;
  json["version"] = kVersion;
  json["rows"] = options.rows;
  json["dim"] = options.dim;
  json["dtype"] = NameOf(options.dtype);
  json["io_threads"] = options.io_threads;
  json["block_bytes"] = options.tuning.block_bytes;
  json["direct_io"] = options.tuning.direct_io;
  json["apart"] = NameOf(options.tuning.apart);
  json["together"] = NameOf(options.tuning.together);
  json["blob_files"] = options.tuning.blob_files;
  json["run_bytes"] = options.tuning.run_bytes;
  json["ingest_bytes_per_second"] = figures.ingest_bytes_per_second;
  json["ingest_ratio"] = figures.ingest_ratio;
  json["ingest_written_ratio"] = figures.ingest_written_ratio;
  json["memory_bytes"] = figures.memory_bytes;
  json["memory_bound_bytes"] = figures.memory_bound_bytes;
  for (const Measured& measured : figures.measured) json["measured"][measured.name] = ToJson(measured);
  for (const Amplification& one : figures.amplification) {
    json["write_amplification"][one.pattern] = {{"written_per_accepted", one.written_per_accepted},
                                                {"rows_per_second", one.rows_per_second},
                                                {"stall_seconds", one.stall_seconds},
                                                {"cpu_seconds_per_gigabyte", one.cpu_seconds_per_gigabyte}};
  }
  return json;
}

void Print(const BenchStoreOptions& options, const Figures& figures, std::ostream& out) {
  out << absl::StrFormat("%d rows of %d numbers, %s weights and momentum, %d reads in flight, %d rounds\n", options.rows, options.dim,
                         NameOf(options.dtype), options.io_threads, options.rounds);
  out << absl::StrFormat("ingestion: %.0f MB/s, %.2f of a direct sequential write; %.3f bytes written a byte of data\n",
                         figures.ingest_bytes_per_second / 1e6, figures.ingest_ratio, figures.ingest_written_ratio);
  PrintTable(figures.measured, out);
  for (const Amplification& one : figures.amplification) {
    out << absl::StrFormat(
        "write-back of %s: %.2f bytes written a byte of data, %.0f rows/s, %.1f s of stalls, %.1f s of CPU a GB; compactions included\n",
        one.pattern, one.written_per_accepted, one.rows_per_second, one.stall_seconds, one.cpu_seconds_per_gigabyte);
  }
  out << absl::StrFormat("index, filters and memtables: %.1f MB; counted in --memory: %.1f MB with buffers\n", figures.memory_bytes / 1e6,
                         figures.memory_bound_bytes / 1e6);
}

absl::Status CheckOptions(const BenchStoreOptions& options) {
  const auto in_range = [](const char* name, double value, double least, double most) {
    return value >= least && value <= most
               ? absl::OkStatus()
               : absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; it must be in [", least, ", ", most, "]"));
  };
  for (const absl::Status& status :
       {in_range("--dim", options.dim, 1, 65536), in_range("--rows", static_cast<double>(options.rows), 1, 1e12),
        in_range("--fetch-rows", static_cast<double>(options.fetch_rows), 1, static_cast<double>(options.rows)),
        in_range("--partitions", static_cast<double>(options.partitions), 1, 4096), in_range("--rounds", options.rounds, 1, 1000),
        in_range("--hot-rows", static_cast<double>(options.hot_rows), 0, 1e9), in_range("--churn", options.churn, 0, 100)}) {
    if (!status.ok()) return status;
  }
  if (std::filesystem::is_directory(options.folder)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--store ", options.folder, " is no folder"));
}

}  // namespace

absl::Status RunBenchStore(const BenchStoreOptions& options, std::ostream& out) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  const std::string folder = absl::StrCat(options.folder, "/bench-store");
  std::error_code error;
  if (!std::filesystem::create_directory(folder, error)) {
    return absl::AlreadyExistsError(absl::StrCat(folder, " is there already, or cannot be made"));
  }
  Figures figures;
  const absl::Status status = StoreBench(options, folder).Run(&figures);
  std::filesystem::remove_all(folder, error);
  if (!status.ok()) return status;
  if (options.hot_rows > 0) {
    absl::StatusOr<std::vector<Measured>> hot = BenchHotRows(HeadOf(options), options.hot_rows, options.fetch_rows, 4 * options.rounds);
    if (!hot.ok()) return hot.status();
    figures.measured.insert(figures.measured.end(), hot->begin(), hot->end());
  }
  Print(options, figures, out);
  if (options.json_path.empty()) return absl::OkStatus();
  std::ofstream file(options.json_path);
  file << ToJson(options, figures).dump(2) << "\n";
  file.close();
  return file.good() ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", options.json_path));
}

}  // namespace myriad
