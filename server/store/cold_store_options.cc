#include "server/store/cold_store_options.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include <rocksdb/cache.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/sst_partitioner.h>
#include <rocksdb/table.h>

#include "server/store/cold_record.h"

namespace myriad {
namespace {

class PartitionCutter : public rocksdb::SstPartitioner {
 public:
  const char* Name() const override { return "MyriadPartitionCutter"; }
  rocksdb::PartitionerResult ShouldPartition(const rocksdb::PartitionerRequest& request) override {
    const bool cut = request.current_output_file_size >= static_cast<uint64_t>(kLeastTableBytes) &&
                     std::memcmp(request.prev_user_key->data(), request.current_user_key->data(), kColdPartitionBytes) != 0;
    return cut ? rocksdb::kRequired : rocksdb::kNotRequired;
  }
  bool CanDoTrivialMove(const rocksdb::Slice&, const rocksdb::Slice&) override { return true; }
};

class PartitionCutterFactory : public rocksdb::SstPartitionerFactory {
 public:
  const char* Name() const override { return "MyriadPartitionCutterFactory"; }
  std::unique_ptr<rocksdb::SstPartitioner> CreatePartitioner(const rocksdb::SstPartitioner::Context&) const override {
    return std::make_unique<PartitionCutter>();
  }
};

}  // namespace

rocksdb::Options ColdRocksOptions(const ColdStore::Options& options) {
  const ColdStoreTuning& tuning = options.tuning;
  rocksdb::Options rocks;
  rocks.create_if_missing = !options.must_exist;
  rocks.create_missing_column_families = true;
  rocks.write_buffer_size = kNoMemtableBytes;
  rocks.compression = rocksdb::kNoCompression;
  rocks.target_file_size_base = kMostTableBytes;
  rocks.sst_partitioner_factory = std::make_shared<PartitionCutterFactory>();
  rocks.max_compaction_bytes = 2 * kMostTableBytes;
  rocks.max_bytes_for_level_base = 256 << 20;
  rocks.level_compaction_dynamic_level_bytes = true;
  rocks.level0_file_num_compaction_trigger = kNewestFilesToCompact;
  rocks.level0_slowdown_writes_trigger = kMostNewestFiles;
  rocks.level0_stop_writes_trigger = 2 * kMostNewestFiles;
  // Nearly every look-up finds its record, so the lowest level, which holds nine in ten, goes without a filter.
  rocks.optimize_filters_for_hits = true;
  rocks.max_background_jobs = 2;
  rocks.max_open_files = MaxOpenFiles();
  rocks.allow_fallocate = false;  // By the greatest size that a file may have, not by its own.
  rocks.writable_file_max_buffer_size = kTableWriteBuffer;
  rocks.compaction_readahead_size = kCompactionReadAhead;
  // Nothing is logged, so nothing may reach the disk out of order either: one flush is one instant.
  rocks.avoid_flush_during_shutdown = true;
  rocks.bgerror_resume_retry_interval = 200000;  // Microseconds between two tries at what failed.
  rocks.info_log_level = rocksdb::WARN_LEVEL;
  rocks.keep_log_file_num = 2;
  rocks.max_log_file_size = 1 << 20;
  rocks.stats_dump_period_sec = 0;
  rocks.stats_persist_period_sec = 0;
  if (tuning.blob_files) {
    rocks.enable_blob_files = true;
    rocks.blob_file_size = kMostTableBytes;
    rocks.enable_blob_garbage_collection = true;
    rocks.blob_garbage_collection_age_cutoff = 0.5;
    rocks.blob_garbage_collection_force_threshold = 0.5;
  }
  rocksdb::BlockBasedTableOptions table;
  table.block_size = tuning.block_bytes + kBlockOverhang;
  // From ColdStoreRuns::ReadAround() to the taking in. Index and filters stay with their open files.
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes, /*num_shard_bits=*/2);
  table.index_block_restart_interval = 16;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kFilterBitsPerRecord, false));
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return rocks;
}

rocksdb::ColumnFamilyOptions ScatteredFamilyOptions(const rocksdb::Options& stretches) {
  rocksdb::ColumnFamilyOptions scattered(stretches);
  scattered.write_buffer_size = kMemtableBytes;
  scattered.max_write_buffer_number = kMemtables;
  scattered.sst_partitioner_factory = nullptr;
  scattered.compaction_style = rocksdb::kCompactionStyleUniversal;
  scattered.level0_file_num_compaction_trigger = kScatteredRunsToCompact;
  scattered.level_compaction_dynamic_level_bytes = false;
  scattered.optimize_filters_for_hits = false;
  return scattered;
}

rocksdb::ColumnFamilyOptions NoteFamilyOptions(const rocksdb::Options& stretches) {
  rocksdb::ColumnFamilyOptions notes(stretches);
  notes.sst_partitioner_factory = nullptr;
  notes.enable_blob_files = false;
  notes.compaction_filter = nullptr;
  return notes;
}

int MaxOpenFiles() {
  // Tables are cut by partition, so there are a few for each of 4,096 and no more; then all stay open, with their index.
  constexpr rlim_t kEnough = ColdStore::kMostOpenFiles;
  constexpr rlim_t kOthers = 512;  // Sockets, logs.
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= kEnough + kOthers) return -1;
  return static_cast<int>(std::max<rlim_t>(64, limit.rlim_cur - std::min(limit.rlim_cur, kOthers)));
}

}  // namespace myriad
