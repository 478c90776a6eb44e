#include "server/store/cold_store_runs.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <utility>

#include <rocksdb/sst_file_writer.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "head/prefetch.h"
#include "server/store/cold_store_options.h"
#include "server/store/cold_store_slices.h"
#include "server/store/fresh_tables.h"

namespace myriad {
namespace {

// Where a run is cut into files, as compactions cut theirs: the first record of each, and the end.
std::vector<int64_t> Cut(absl::Span<const ColdStore::Encoded> records, int64_t value_bytes, bool by_partition) {
  std::vector<int64_t> cuts = {0};
  for (int64_t i = 1; i < static_cast<int64_t>(records.size()); ++i) {
    const int64_t bytes = (i - cuts.back()) * value_bytes;
    const bool is_new_partition = records[i].key >> kRowKeyIndexBits != records[i - 1].key >> kRowKeyIndexBits;
    if (bytes >= kMostTableBytes || (by_partition && bytes >= kLeastTableBytes && is_new_partition)) cuts.push_back(i);
  }
  cuts.push_back(records.size());
  return cuts;
}

}  // namespace

ColdStoreRuns::ColdStoreRuns(rocksdb::DB* db, const rocksdb::Options& options, const std::string& folder, int64_t value_bytes)
    : db_(db), options_(options), builders_(kBuilders), value_bytes_(value_bytes) {
  std::string session;
  db->GetDbSessionId(session).PermitUncheckedError();  // Never fails.
  prefix_ = absl::StrCat(folder, "/", FreshTables::kPrefix, session, "-");
}

rocksdb::Status ColdStoreRuns::RemoveLeftovers(rocksdb::Env* env, const std::string& folder) {
  std::vector<std::string> names;
  rocksdb::Status status = env->GetChildren(folder, &names);
  for (const std::string& name : names) {
    if (status.ok() && absl::StartsWith(name, FreshTables::kPrefix)) status = env->DeleteFile(absl::StrCat(folder, "/", name));
  }
  return status;
}

void ColdStoreRuns::ReadAround(uint64_t first_key) const {
  const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(rocksdb::ReadOptions()));
  iterator->Seek(ColdKey(first_key).slice());
  iterator->status().PermitUncheckedError();  // Whoever needs the blocks reads them again, and says so.
}

rocksdb::Status ColdStoreRuns::Build(absl::Span<const ColdStore::Encoded> records, Kind kind, const std::string& path) const {
  if (kind != Kind::kLowest) ReadAround(records.front().key);
  rocksdb::EnvOptions env(options_);
  env.use_direct_writes = options_.use_direct_io_for_flush_and_compaction;
  env.allow_fallocate = false;
  rocksdb::SstFileWriter writer(env, options_, /*column_family=*/nullptr, /*invalidate_page_cache=*/true,
                                rocksdb::Env::IOPriority::IO_TOTAL, /*skip_filters=*/kind == Kind::kLowest);
  rocksdb::Status status = writer.Open(path);
  for (const ColdStore::Encoded& record : records) {
    if (!status.ok()) break;
    if (const ColdStore::Encoded* const next = &record + 1; next != records.end()) {
      PrefetchBytes(next->value.data(), next->value.size(), /*write=*/false);
    }
    status = writer.Put(ColdKey(record.key).slice(), SliceOf(record.value));
  }
  if (status.ok()) status = writer.Finish();
  return status;
}

rocksdb::Status ColdStoreRuns::Add(absl::Span<const ColdStore::Encoded> records, Kind kind) {
  if (records.empty()) return rocksdb::Status::OK();
  const std::vector<int64_t> cuts = Cut(records, value_bytes_, kind != Kind::kScattered);
  std::vector<File> files(cuts.size() - 1);
  for (size_t i = 0; i < files.size(); ++i) {
    files[i] = {absl::StrCat(prefix_, next_file_++, ".sst"), records[cuts[i]].key, records[cuts[i + 1] - 1].key};
  }
  absl::Cleanup remove = [&] {
    for (const File& file : files) options_.env->DeleteFile(file.path).PermitUncheckedError();
  };
  std::vector<rocksdb::Status> statuses(files.size());
  builders_.Run(files.size(),
                [&](int64_t i) { statuses[i] = Build(records.subspan(cuts[i], cuts[i + 1] - cuts[i]), kind, files[i].path); });
  rocksdb::Status status;
  for (const rocksdb::Status& built : statuses) {
    if (status.ok()) status = built;
  }
  if (status.ok()) status = TakeIn(files);
  if (status.ok()) std::move(remove).Cancel();
  return status;
}

rocksdb::Status ColdStoreRuns::TakeIn(const std::vector<File>& files) {
  Arrival arrival;
  arrival.files = &files;
  absl::MutexLock lock(&mu_);
  arrivals_.push_back(&arrival);
  const auto may_go_on = [this, &arrival] {
    mu_.AssertHeld();
    return arrival.settled || !taking_in_;
  };
  while (true) {
    mu_.Await(absl::Condition(&may_go_on));
    if (arrival.settled) return arrival.status;
    std::vector<Arrival*> group;
    try {
      group = NextGroup();
    } catch (const std::bad_alloc&) {
      arrivals_.erase(std::find(arrivals_.begin(), arrivals_.end(), &arrival));
      return rocksdb::Status::MemoryLimit();
    }
    taking_in_ = true;
    mu_.Unlock();
    const rocksdb::Status status = IngestGroup(group);
    mu_.Lock();
    taking_in_ = false;
    for (Arrival* one : group) {
      one->settled = true;
      try {
        one->status = status;
      } catch (const std::bad_alloc&) {  // Of its text.
        one->status = rocksdb::Status::MemoryLimit();
      }
    }
  }
}

std::vector<ColdStoreRuns::Arrival*> ColdStoreRuns::NextGroup() {
  std::vector<Arrival*> group;
  std::map<uint64_t, uint64_t> spans;  // Last keys of the group's files, by the first.
  const auto is_apart = [&](const File& file) {
    const auto behind = spans.upper_bound(file.last_key);
    return behind == spans.begin() || std::prev(behind)->second < file.first_key;
  };
  std::deque<Arrival*> others;
  for (Arrival* arrival : arrivals_) {
    if (std::all_of(arrival->files->begin(), arrival->files->end(), is_apart)) {
      group.push_back(arrival);
      for (const File& file : *arrival->files) spans[file.first_key] = file.last_key;
    } else {
      others.push_back(arrival);
    }
  }
  arrivals_ = std::move(others);
  return group;
}

rocksdb::Status ColdStoreRuns::IngestGroup(absl::Span<Arrival* const> group) const {
  try {
    std::vector<std::string> paths;
    for (const Arrival* arrival : group) {
      for (const File& file : *arrival->files) paths.push_back(file.path);
    }
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    ingest.write_global_seqno = false;
    return db_->IngestExternalFile(paths, ingest);
  } catch (const std::exception&) {  // For want of memory; others wait for the answer.
    return rocksdb::Status::MemoryLimit();
  }
}

}  // namespace myriad
