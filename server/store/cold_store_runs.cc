#include "server/store/cold_store_runs.h"

#include <utility>

#include <rocksdb/sst_file_writer.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/store/cold_record.h"
#include "server/store/cold_store_options.h"

namespace myriad {
namespace {

constexpr char kFilePrefix[] = "run-";

// Where a run is cut into files, as compactions cut theirs: the first record of each, and the end.
std::vector<int64_t> Cut(absl::Span<const uint64_t> keys, int64_t value_bytes, bool by_partition) {
  std::vector<int64_t> cuts = {0};
  for (int64_t i = 1; i < static_cast<int64_t>(keys.size()); ++i) {
    const int64_t bytes = (i - cuts.back()) * value_bytes;
    const uint64_t partition = keys[i] >> kRowKeyIndexBits;
    const uint64_t last = keys[i - 1] >> kRowKeyIndexBits;
    // A file covers all keys from its first to its last, so one of two partitions that lie apart would lie over all between them.
    const int64_t least = partition > last + 1 ? kLeastTableBytes / 8 : kLeastTableBytes;
    if (bytes >= kMostTableBytes || (by_partition && bytes >= least && partition != last)) cuts.push_back(i);
  }
  cuts.push_back(keys.size());
  return cuts;
}

}  // namespace

ColdStoreRuns::ColdStoreRuns(rocksdb::DB* db, const rocksdb::Options& options, IoPool* pool, const std::string& folder, int64_t value_bytes)
    : db_(db), options_(options), pool_(pool), value_bytes_(value_bytes) {
  std::string session;
  db->GetDbSessionId(session).PermitUncheckedError();  // Never fails.
  prefix_ = absl::StrCat(folder, "/", kFilePrefix, session, "-");
}

rocksdb::Status ColdStoreRuns::RemoveLeftovers(rocksdb::Env* env, const std::string& folder) {
  std::vector<std::string> names;
  rocksdb::Status status = env->GetChildren(folder, &names);
  for (const std::string& name : names) {
    if (status.ok() && absl::StartsWith(name, kFilePrefix)) status = env->DeleteFile(absl::StrCat(folder, "/", name));
  }
  return status;
}

rocksdb::Status ColdStoreRuns::Build(absl::Span<const uint64_t> keys, int64_t begin, int64_t end, Kind kind, const std::string& path,
                                     ValueOf value_of) const {
  rocksdb::EnvOptions env(options_);
  env.use_direct_writes = options_.use_direct_io_for_flush_and_compaction;
  env.allow_fallocate = false;
  rocksdb::SstFileWriter writer(env, options_, /*column_family=*/nullptr, /*invalidate_page_cache=*/true,
                                rocksdb::Env::IOPriority::IO_TOTAL, /*skip_filters=*/kind == Kind::kLowest);
  rocksdb::Status status = writer.Open(path);
  std::string scratch(value_bytes_, '\0');
  for (int64_t i = begin; status.ok() && i < end; ++i) {
    char key[kColdKeyBytes];
    EncodeColdKey(keys[i], key);
    status = writer.Put(rocksdb::Slice(key, kColdKeyBytes), value_of(i, scratch.data()));
  }
  if (status.ok()) status = writer.Finish();
  return status;
}

rocksdb::Status ColdStoreRuns::Add(absl::Span<const uint64_t> keys, Kind kind, ValueOf value_of) {
  if (keys.empty()) return rocksdb::Status::OK();
  const std::vector<int64_t> cuts = Cut(keys, value_bytes_, kind != Kind::kScattered);
  const int64_t files = static_cast<int64_t>(cuts.size()) - 1;
  std::vector<std::string> paths(files);
  std::vector<rocksdb::Status> statuses(files);
  for (std::string& path : paths) path = absl::StrCat(prefix_, next_file_++, ".sst");
  pool_->Run(files, [&](int64_t file) { statuses[file] = Build(keys, cuts[file], cuts[file + 1], kind, paths[file], value_of); });
  rocksdb::Status status;
  for (const rocksdb::Status& built : statuses) {
    if (status.ok()) status = built;
  }
  if (status.ok()) {
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    ingest.write_global_seqno = false;
    status = db_->IngestExternalFile(paths, ingest);
  }
  if (!status.ok()) {
    for (const std::string& path : paths) options_.env->DeleteFile(path).PermitUncheckedError();
  }
  return status;
}

}  // namespace myriad
