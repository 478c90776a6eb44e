#include "server/store/cold_store_runs.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "head/prefetch.h"
#include "server/store/cold_store_options.h"
#include "server/store/cold_store_slices.h"
#include "server/store/fresh_tables.h"

namespace myriad {
namespace {

// Where stretches are cut into files, as compactions cut theirs: the first record of each, and the end.
std::vector<int64_t> Cut(absl::Span<const ColdStore::Encoded> records, int64_t value_bytes) {
  std::vector<int64_t> cuts = {0};
  for (int64_t i = 1; i < static_cast<int64_t>(records.size()); ++i) {
    const int64_t bytes = (i - cuts.back()) * value_bytes;
    const bool is_new_partition = records[i].key >> kRowKeyIndexBits != records[i - 1].key >> kRowKeyIndexBits;
    if (bytes >= kMostTableBytes || (bytes >= kLeastTableBytes && is_new_partition)) cuts.push_back(i);
  }
  if (!records.empty()) cuts.push_back(records.size());
  return cuts;
}

rocksdb::Status PutAll(absl::Span<const ColdStore::Encoded> records, rocksdb::SstFileWriter* writer) {
  rocksdb::Status status;
  for (const ColdStore::Encoded& record : records) {
    if (!status.ok()) break;
    if (const ColdStore::Encoded* const next = &record + 1; next != records.end()) {
      PrefetchBytes(next->value.data(), next->value.size(), /*write=*/false);
    }
    status = writer->Put(ColdKey(record.key).slice(), SliceOf(record.value));
  }
  return status;
}

}  // namespace

ColdStoreRuns::ColdStoreRuns(rocksdb::DB* db, const ColdStoreFamilies* families, const rocksdb::Options& options, const std::string& folder,
                             int64_t value_bytes)
    : db_(db), families_(families), options_(options), builders_(ColdStore::kTablesWrittenAtOnce), value_bytes_(value_bytes) {
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
  const std::unique_ptr<rocksdb::Iterator> iterator(db_->NewIterator(rocksdb::ReadOptions(), families_->stretches()));
  iterator->Seek(ColdKey(first_key).slice());
  iterator->status().PermitUncheckedError();  // Whoever needs the blocks reads them again, and says so.
}

std::string ColdStoreRuns::NextPath() { return absl::StrCat(prefix_, next_file_++, ".sst"); }

rocksdb::SstFileWriter ColdStoreRuns::NewWriter(bool filters) const {
  rocksdb::EnvOptions env(options_);
  env.use_direct_writes = options_.use_direct_io_for_flush_and_compaction;
  env.allow_fallocate = false;
  return {env, options_, /*column_family=*/nullptr, /*invalidate_page_cache=*/true, rocksdb::Env::IOPriority::IO_TOTAL, !filters};
}

rocksdb::Status ColdStoreRuns::BuildStretches(absl::Span<const ColdStore::Encoded> records, bool first, const std::string& path) const {
  if (!first) ReadAround(records.front().key);
  rocksdb::SstFileWriter writer = NewWriter(/*filters=*/!first);
  rocksdb::Status status = writer.Open(path);
  if (status.ok()) status = PutAll(records, &writer);
  if (status.ok()) status = writer.Finish();
  return status;
}

rocksdb::Status ColdStoreRuns::BuildScattered(absl::Span<const ColdStore::Encoded> stretches,
                                              absl::Span<const ColdStore::Encoded> scattered, const std::string& path) const {
  rocksdb::SstFileWriter writer = NewWriter(/*filters=*/true);
  rocksdb::Status status = writer.Open(path);
  for (size_t begin = 0, end = 0; status.ok() && begin < stretches.size(); begin = end) {
    for (end = begin + 1; end < stretches.size() && stretches[end].key == stretches[end - 1].key + 1;) ++end;
    status = writer.DeleteRange(ColdKey(stretches[begin].key).slice(), ColdKey(stretches[end - 1].key + 1).slice());
  }
  if (status.ok()) status = PutAll(scattered, &writer);
  if (status.ok()) status = writer.Finish();
  return status;
}

rocksdb::Status ColdStoreRuns::Build(absl::Span<const ColdStore::Encoded> stretches, absl::Span<const ColdStore::Encoded> scattered,
                                     bool first, Tables* tables) {
  const std::vector<int64_t> cuts = Cut(stretches, value_bytes_);
  const int64_t files = static_cast<int64_t>(cuts.size()) - 1;
  for (int64_t i = 0; i < files; ++i) tables->stretches.push_back({NextPath(), stretches[cuts[i]].key, stretches[cuts[i + 1] - 1].key});
  if (!first) tables->scattered = NextPath();
  absl::Cleanup remove = [&] { Delete(*tables); };
  std::vector<rocksdb::Status> statuses(files + (first ? 0 : 1));
  builders_.Run(statuses.size(), [&](int64_t i) {
    statuses[i] = i == files ? BuildScattered(stretches, scattered, tables->scattered)
                             : BuildStretches(stretches.subspan(cuts[i], cuts[i + 1] - cuts[i]), first, tables->stretches[i].path);
  });
  for (const rocksdb::Status& built : statuses) {
    if (!built.ok()) return built;
  }
  std::move(remove).Cancel();
  return rocksdb::Status::OK();
}

void ColdStoreRuns::Delete(const Tables& tables) const {
  for (const File& file : tables.stretches) options_.env->DeleteFile(file.path).PermitUncheckedError();
  if (!tables.scattered.empty()) options_.env->DeleteFile(tables.scattered).PermitUncheckedError();
}

rocksdb::Status ColdStoreRuns::Add(absl::Span<const ColdStore::Encoded> stretches, absl::Span<const ColdStore::Encoded> scattered) {
  if (stretches.empty() && scattered.empty()) return rocksdb::Status::OK();
  Tables tables;
  const rocksdb::Status status = Build(stretches, scattered, /*first=*/false, &tables);
  return status.ok() ? TakeIn(tables) : status;
}

rocksdb::Status ColdStoreRuns::FirstRun::Add(absl::Span<const ColdStore::Encoded> part) {
  Tables tables;
  const rocksdb::Status status = runs_->Build(part, {}, /*first=*/true, &tables);
  if (!status.ok()) return status;
  {
    absl::Cleanup remove = [&] { runs_->Delete(tables); };
    absl::MutexLock lock(&mu_);
    waiting_.stretches.reserve(waiting_.stretches.size() + tables.stretches.size());
    std::move(remove).Cancel();  // From here on nothing fails.
    for (File& file : tables.stretches) waiting_.stretches.push_back(std::move(file));
    if (waiting_.stretches.size() < kTables) return status;
    tables = std::exchange(waiting_, Tables());
  }
  return runs_->TakeIn(tables);
}

rocksdb::Status ColdStoreRuns::FirstRun::Finish() {
  absl::MutexLock lock(&mu_);
  const Tables tables = std::exchange(waiting_, Tables());
  return tables.stretches.empty() ? rocksdb::Status::OK() : runs_->TakeIn(tables);
}

ColdStoreRuns::FirstRun::~FirstRun() {
  absl::MutexLock lock(&mu_);
  runs_->Delete(waiting_);
}

rocksdb::Status ColdStoreRuns::TakeIn(const Tables& tables) {
  absl::Cleanup remove = [&] { Delete(tables); };
  Arrival arrival;
  arrival.tables = &tables;
  absl::MutexLock lock(&mu_);
  arrivals_.push_back(&arrival);
  const auto may_go_on = [this, &arrival] {
    mu_.AssertHeld();
    return arrival.settled || !taking_in_;
  };
  while (true) {
    mu_.Await(absl::Condition(&may_go_on));
    if (arrival.settled) {
      if (arrival.status.ok()) std::move(remove).Cancel();
      return arrival.status;
    }
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
    if (std::all_of(arrival->tables->stretches.begin(), arrival->tables->stretches.end(), is_apart)) {
      group.push_back(arrival);
      for (const File& file : arrival->tables->stretches) spans[file.first_key] = file.last_key;
    } else {
      others.push_back(arrival);
    }
  }
  arrivals_ = std::move(others);
  return group;
}

rocksdb::Status ColdStoreRuns::IngestGroup(absl::Span<Arrival* const> group) const {
  try {
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;
    options.write_global_seqno = false;
    rocksdb::IngestExternalFileArg stretches, scattered;
    for (const Arrival* arrival : group) {
      for (const File& file : arrival->tables->stretches) stretches.external_files.push_back(file.path);
      if (!arrival->tables->scattered.empty()) scattered.external_files.push_back(arrival->tables->scattered);
    }
    stretches.column_family = families_->stretches();
    scattered.column_family = families_->scattered();
    // RocksDB makes the list of the first family's files anew once more, for the numbers of all: the shorter one.
    std::vector<rocksdb::IngestExternalFileArg> families;
    for (rocksdb::IngestExternalFileArg* family : {&scattered, &stretches}) {
      family->options = options;
      if (!family->external_files.empty()) families.push_back(std::move(*family));
    }
    return db_->IngestExternalFiles(families);
  } catch (const std::exception&) {  // For want of memory; others wait for the answer.
    return rocksdb::Status::MemoryLimit();
  }
}

}  // namespace myriad
