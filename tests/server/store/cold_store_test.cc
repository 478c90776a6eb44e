#include "server/store/cold_store.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/store/row_key.h"
#include "tests/testing/server/table_files.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int64_t kBytes = 300;

struct Model {
  std::map<uint64_t, std::pair<int64_t, std::vector<std::byte>>> records;

  void Put(ColdStore* store, const std::vector<uint64_t>& keys, int64_t step) {
    std::vector<ColdStore::Record> batch;
    for (uint64_t key : keys) {
      auto& record = records[key];
      record = {step, std::vector<std::byte>(kBytes)};
      std::mt19937_64 random(key * 1000003 + step);
      for (std::byte& byte : record.second) byte = static_cast<std::byte>(random());
      batch.push_back({key, step, record.second.data()});
    }
    ASSERT_TRUE(store->Write(batch).ok());
  }

  void Check(ColdStore* store) const {
    std::vector<std::byte> bytes(records.size() * kBytes);
    std::vector<ColdStore::Target> targets;
    for (const auto& [key, record] : records) targets.push_back({key, bytes.data() + targets.size() * kBytes, 0});
    const absl::Status status = store->Read(absl::MakeSpan(targets));
    ASSERT_TRUE(status.ok()) << status;
    for (const ColdStore::Target& target : targets) {
      const auto& [step, expected] = records.at(target.key);
      EXPECT_EQ(target.step, step);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), target.bytes)) << target.key;
    }
    auto next = records.begin();
    ASSERT_TRUE(store
                    ->Scan(0, ~uint64_t{0},
                           [&](const ColdStore::Record& record) {
                             EXPECT_NE(next, records.end());
                             EXPECT_EQ(record.key, next->first);
                             EXPECT_EQ(record.step, next->second.first);
                             EXPECT_TRUE(std::equal(next->second.second.begin(), next->second.second.end(), record.bytes));
                             ++next;
                             return absl::OkStatus();
                           })
                    .ok());
    EXPECT_EQ(next, records.end());
  }
};

std::unique_ptr<ColdStore> MustOpen(const std::string& folder, int64_t record_bytes = kBytes) {
  auto store = ColdStore::Open({folder, record_bytes, 4});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// Of a few partitions: some that follow each other, some that lie apart.
std::vector<uint64_t> KeysOfPartitions(int count, std::mt19937_64& random) {
  std::set<uint64_t> keys;
  while (static_cast<int>(keys.size()) < count) {
    const uint64_t first = (random() % 5 + 3) << kRowKeyIndexBits | random() % 5000;
    const uint64_t run = random() % 3 == 0 ? random() % 800 : 1;
    for (uint64_t i = 0; i < run; ++i) keys.insert(first + i);
  }
  return {keys.begin(), keys.end()};
}

std::vector<uint64_t> RandomKeys(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::map<uint64_t, bool> keys;
  while (static_cast<int>(keys.size()) < count) keys[random() % 100000 << 20] = true;
  std::vector<uint64_t> result;
  for (const auto& [key, unused] : keys) result.push_back(key);
  return result;
}

TEST(ColdStoreTest, GivesBackWhatWasWrittenAlsoAfterReopening) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  for (int64_t step = -1; step < 5; ++step) model.Put(store.get(), RandomKeys(2000, step + 100), step);
  model.Check(store.get());
  ASSERT_TRUE(store->Flush().ok());
  model.Check(store.get());
  store.reset();
  store = MustOpen(dir.File("rows"));
  model.Check(store.get());
}

// As sorted runs past the memtables, through them, or in bulk: the newest record of a key is the one that is read, together or alone.
TEST(ColdStoreTest, IsAMapHoweverItIsWritten) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 random(seed);
    TempDir dir;
    Model model;
    ColdStore::Options options{dir.File("rows"), kBytes, 4};
    options.tuning.run_bytes = 300 * kBytes;
    options.tuning.apart = seed % 2 == 1 ? ColdReadBy::kMultiGet : ColdReadBy::kGet;
    options.tuning.together = seed == 3 ? ColdReadBy::kGet : seed == 2 ? ColdReadBy::kIterator : ColdReadBy::kMultiGet;
    std::unique_ptr<ColdStore> store = *ColdStore::Open(options);
    for (int64_t step = 0; step < 12; ++step) {
      std::vector<uint64_t> keys = KeysOfPartitions(1 + static_cast<int>(random() % 900), random);
      std::shuffle(keys.begin(), keys.end(), random);
      model.Put(store.get(), keys, step);
      const uint64_t then = random() % 4;
      if (then < 2) {
        ASSERT_TRUE(store->Flush().ok());
      }
      if (then == 0) {
        store.reset();
        store = *ColdStore::Open(options);
      }
    }
    model.Check(store.get());
    std::map<uint64_t, int64_t> stamps;
    ASSERT_TRUE(store
                    ->VerifyAll([&](absl::Span<const ColdStore::Stamp> some) {
                      for (const ColdStore::Stamp& stamp : some) EXPECT_TRUE(stamps.emplace(stamp.key, stamp.step).second) << stamp.key;
                    })
                    .ok());
    ASSERT_EQ(stamps.size(), model.records.size());
    for (const auto& [key, record] : model.records) EXPECT_EQ(stamps.at(key), record.first);
    EXPECT_LE(store->statistics().memory_bytes, ColdStore::MemoryBytes(static_cast<int64_t>(stamps.size()), options));
  }
}

// Runs whose files span each other's keys, and rows from anywhere beside them.
TEST(ColdStoreTest, WritesAtTheSameTimeLeaveAllThatTheyWrote) {
  const TempDir dir;
  const std::unique_ptr<ColdStore> store = MustOpen(dir.path() + "/cold");
  ASSERT_NE(store, nullptr);
  constexpr int kThreads = 6;
  Model models[kThreads];
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t step = 0; step < 8; ++step) {
        // Of partitions t, t + 6 and so on: a file of two of them lies over those of all others.
        std::vector<uint64_t> keys;
        for (uint64_t partition = t; partition < 24; partition += kThreads) {
          const uint64_t rows = (partition + step) % 3 == 0 ? 3 : 1500;
          for (uint64_t i = 0; i < rows; ++i) keys.push_back(partition << kRowKeyIndexBits | (i + step * 100));
        }
        models[t].Put(store.get(), keys, step);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Model all;
  for (const Model& model : models) all.records.insert(model.records.begin(), model.records.end());
  all.Check(store.get());
  ASSERT_TRUE(store->Flush().ok());
  for (const auto& file : std::filesystem::directory_iterator(dir.path() + "/cold")) {
    EXPECT_EQ(file.path().filename().string().find("run-"), std::string::npos) << "left behind: " << file.path();
  }
}

// Records go to and fro between those that were written alone and those that were written in a row; meanwhile each is always there, whole,
// of the step that was written last or of the one that is being written, whichever way it is read.
TEST(ColdStoreTest, ReadersFindEachRecordWhileItMoves) {
  constexpr uint64_t kRows = 600;
  constexpr int64_t kLargeBytes = 2000;  // Enough for neighbours to be read together.
  const uint64_t first = uint64_t{9} << kRowKeyIndexBits;
  TempDir dir;
  ColdStore::Options options{dir.File("rows"), kLargeBytes, 4};
  options.tuning.run_bytes = 1;
  const std::unique_ptr<ColdStore> store = *ColdStore::Open(options);
  std::atomic<int64_t> written{-1};
  std::atomic<bool> done{false};
  const auto write = [&](int64_t step) {
    const std::vector<std::byte> bytes(kLargeBytes, static_cast<std::byte>(step));
    std::vector<ColdStore::Record> all, alone;
    for (uint64_t i = 0; i < kRows; ++i) (step % 3 == 0 || i % 2 == 0 ? all : alone).push_back({first + i, step, bytes.data()});
    // In a row; or every second one, twice.
    ASSERT_TRUE(store->Write(all).ok());
    ASSERT_TRUE(alone.empty() || store->Write(alone).ok());
    if (step % 2 == 0) {
      ASSERT_TRUE(store->Flush().ok());
    }
    written = step;
  };
  write(0);
  const auto check = [&](const ColdStore::Record& record, int64_t least) {
    ASSERT_GE(record.step, least) << "an older record of " << record.key;
    for (int64_t i = 0; i < kLargeBytes; ++i) ASSERT_EQ(record.bytes[i], static_cast<std::byte>(record.step));
  };
  std::vector<std::thread> readers;
  for (int64_t stride : {1, 7}) {  // Together; alone.
    readers.emplace_back([&, stride] {
      while (!done) {
        const int64_t least = written;
        std::vector<std::byte> bytes(kRows * kLargeBytes);
        std::vector<ColdStore::Target> targets;
        for (uint64_t i = 0; i < kRows; i += stride) targets.push_back({first + i, bytes.data() + i * kLargeBytes, 0});
        const absl::Status status = store->Read(absl::MakeSpan(targets));
        ASSERT_TRUE(status.ok()) << status;
        for (const ColdStore::Target& target : targets) check({target.key, target.step, target.bytes}, least);
      }
    });
  }
  readers.emplace_back([&] {
    while (!done) {
      const int64_t least = written;
      uint64_t next = first;
      const absl::Status status = store->Scan(0, ~uint64_t{0}, [&](const ColdStore::Record& record) {
        EXPECT_EQ(record.key, next++);
        check(record, least);
        return absl::OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(next, first + kRows);
    }
  });
  for (int64_t step = 1; step < 60; ++step) write(step);
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(ColdStoreTest, ASortedRunIsTakenWhole) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  for (uint64_t key : RandomKeys(3000, 1)) {
    std::vector<std::byte> bytes(kBytes, static_cast<std::byte>(key >> 20));
    model.records[key] = {7, bytes};
  }
  auto next = model.records.begin();
  ASSERT_TRUE(store
                  ->Ingest([&](ColdStore::Record* record) {
                    if (next == model.records.end()) return false;
                    *record = {next->first, next->second.first, next->second.second.data()};
                    ++next;
                    return true;
                  })
                  .ok());
  model.Check(store.get());
  EXPECT_EQ(store->statistics().accepted_bytes, 3000 * kBytes);

  int given = 0;
  const std::vector<std::byte> bytes(kBytes);
  EXPECT_TRUE(absl::IsInvalidArgument(store->Ingest([&](ColdStore::Record* record) {
    *record = {static_cast<uint64_t>(5 - given), 8, bytes.data()};
    return ++given < 3;
  })));
  model.Check(store.get());
  EXPECT_EQ(FreshTableFilesIn(dir.File("rows")), std::set<std::string>());
}

// A process may be killed when a run is in the store under its new name and not yet gone under the old one. What comes next must not be
// written into that file.
TEST(ColdStoreTest, ALeftoverThatIsALinkOfATableIsNotWrittenTo) {
  TempDir dir;
  Model model;
  ColdStore::Options options{dir.File("rows"), kBytes, 4};
  options.tuning.run_bytes = 1;
  // Of one partition: they go as a run.
  std::vector<uint64_t> keys(600);
  std::iota(keys.begin(), keys.end(), uint64_t{3} << kRowKeyIndexBits);
  {
    auto store = ColdStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    model.Put(store->get(), keys, 1);
  }
  const std::set<std::string> found = TableFilesIn(options.folder);
  const std::vector<std::string> tables(found.begin(), found.end());
  ASSERT_GE(tables.size(), 1u);
  const auto leftover = [&](size_t number) { return absl::StrCat(options.folder, "/run-", number, ".sst"); };
  for (size_t i = 0; i < tables.size(); ++i) std::filesystem::create_hard_link(tables[i], leftover(i));
  auto store = ColdStore::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  for (size_t i = 0; i < tables.size(); ++i) EXPECT_FALSE(std::filesystem::exists(leftover(i))) << i;
  for (size_t i = 0; i < tables.size(); ++i) {
    std::iota(keys.begin(), keys.end(), (4 + i) << kRowKeyIndexBits);
    model.Put(store->get(), keys, 2);
  }
  model.Check(store->get());
}

TEST(ColdStoreTest, AMissingRecordIsALossAndNamed) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  model.Put(store.get(), {1, 2, 3}, 0);
  std::vector<std::byte> bytes(2 * kBytes);
  std::vector<ColdStore::Target> targets = {{2, bytes.data(), 0}, {4, bytes.data() + kBytes, 0}};
  const absl::Status status = store->Read(absl::MakeSpan(targets));
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_NE(status.message().find("record 4 is missing"), std::string::npos) << status;
  EXPECT_EQ(ColdStore::KeyOf(status), 4u);
}

TEST(ColdStoreTest, DamageOnTheDiskIsALoss) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  model.Put(store.get(), RandomKeys(2000, 1), 0);
  ASSERT_TRUE(store->Flush().ok());
  store.reset();
  std::string largest;
  for (const std::string& path : TableFilesIn(dir.File("rows"))) {
    if (largest.empty() || std::filesystem::file_size(path) > std::filesystem::file_size(largest)) largest = path;
  }
  ASSERT_FALSE(largest.empty());
  {
    std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100000);
    file.write("damage", 6);
  }
  store = MustOpen(dir.File("rows"));
  std::vector<std::byte> bytes(model.records.size() * kBytes);
  std::vector<ColdStore::Target> targets;
  for (const auto& [key, record] : model.records) targets.push_back({key, bytes.data() + targets.size() * kBytes, 0});
  EXPECT_TRUE(absl::IsDataLoss(store->Read(absl::MakeSpan(targets))));
}

TEST(ColdStoreTest, AFolderIsOfOneSizeAndOneServer) {
  TempDir dir;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  const absl::Status twice = ColdStore::Open({dir.File("rows"), kBytes, 4}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(twice)) << twice;
  store.reset();
  const absl::Status other = ColdStore::Open({dir.File("rows"), kBytes + 1, 4}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(other)) << other;
  EXPECT_NE(other.message().find("records of 300 bytes"), std::string::npos) << other;
}

TEST(ColdStoreTest, ALinkedCopyKeepsItsInstant) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  model.Put(store.get(), RandomKeys(2000, 1), 0);
  ASSERT_TRUE(store->Flush().ok());
  ASSERT_TRUE(store->LinkTo(dir.File("save")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store->LinkTo(dir.File("save"))));
  Model later = model;
  later.Put(store.get(), RandomKeys(2000, 2), 1);
  ASSERT_TRUE(store->Flush().ok());
  std::unique_ptr<ColdStore> save = MustOpen(dir.File("save"));
  model.Check(save.get());
  later.Check(store.get());
}

// Short records read as whole ones whose end is zeros, whichever way they went to the disk, and whoever opens it.
TEST(ColdStoreTest, OfShortRecordsOnlyTheFirstBytesAreKept) {
  constexpr int64_t kShortBytes = 100;
  enum Way { kMemtables, kRun, kIngest };
  for (const Way way : {kMemtables, kRun, kIngest}) {
    SCOPED_TRACE(static_cast<int>(way));
    TempDir dir;
    ColdStore::Options options{dir.File("rows"), kBytes, 4};
    if (way == kRun) options.tuning.run_bytes = 1;
    std::unique_ptr<ColdStore> store = *ColdStore::Open(options);
    store->KeepShort(kShortBytes, nullptr);
    std::vector<std::byte> bytes(50 * kBytes, std::byte{7});
    std::vector<ColdStore::Record> records;
    for (uint64_t key = 0; key < 50; ++key) {
      const int64_t step = static_cast<int64_t>(key) + (key % 3 == 0 ? ColdStore::kShort : 0);
      records.push_back({key, step, bytes.data() + key * kBytes});
    }
    if (way == kIngest) {
      size_t next = 0;
      ASSERT_TRUE(store
                      ->Ingest([&](ColdStore::Record* record) {
                        if (next == records.size()) return false;
                        *record = records[next++];
                        return true;
                      })
                      .ok());
    } else {
      ASSERT_TRUE(store->Write(records).ok());
    }
    ASSERT_TRUE(store->Flush().ok());
    store = nullptr;
    store = MustOpen(dir.File("rows"));
    std::vector<std::byte> read(50 * kBytes, std::byte{9});
    std::vector<ColdStore::Target> targets;
    for (uint64_t key = 0; key < 50; ++key) targets.push_back({key, read.data() + key * kBytes, 0});
    ASSERT_TRUE(store->Read(absl::MakeSpan(targets)).ok());
    for (uint64_t key = 0; key < 50; ++key) {
      EXPECT_EQ(targets[key].step, records[key].step);
      EXPECT_EQ(ColdStore::StepOf(targets[key].step), static_cast<int64_t>(key));
      const int64_t kept = ColdStore::IsShort(targets[key].step) ? kShortBytes : kBytes;
      for (int64_t i = 0; i < kBytes; ++i) ASSERT_EQ(targets[key].bytes[i], i < kept ? std::byte{7} : std::byte{0}) << key;
    }
    int64_t stamps = 0;
    ASSERT_TRUE(store
                    ->VerifyAll([&](absl::Span<const ColdStore::Stamp> some) {
                      for (const ColdStore::Stamp& stamp : some) EXPECT_EQ(stamp.step, static_cast<int64_t>(stamp.key));
                      stamps += static_cast<int64_t>(some.size());
                    })
                    .ok());
    EXPECT_EQ(stamps, 50);
  }
}

// Compactions come when RocksDB sees fit: the test writes until one has.
TEST(ColdStoreTest, CompactionsMakeRecordsShort) {
  TempDir dir;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  store->KeepShort(100, [](uint64_t key, int64_t* step, std::byte* bytes) {
    if (key % 2 == 0) return false;
    *step += 1000;
    bytes[0] = std::byte{1};
    return true;
  });
  const std::vector<std::byte> bytes(kBytes, std::byte{7});
  int64_t shortened = 0;
  for (int64_t step = 0; shortened == 0; ++step) {
    std::vector<ColdStore::Record> records;
    for (uint64_t key = 0; key < 40; ++key) records.push_back({key, step, bytes.data()});
    // The newest file of all is not compacted; these keys are in older ones.
    if (step % 10 != 0) records.erase(records.begin(), records.begin() + 20);
    ASSERT_TRUE(store->Write(records).ok());
    ASSERT_TRUE(store->Flush().ok());
    for (uint64_t key = 0; key < 40; ++key) {
      std::vector<std::byte> read(kBytes);
      ColdStore::Target target{key, read.data(), 0};
      ASSERT_TRUE(store->Read(absl::MakeSpan(&target, 1)).ok());
      if (!ColdStore::IsShort(target.step)) {
        ASSERT_EQ(read, bytes);
        continue;
      }
      ++shortened;
      ASSERT_EQ(key % 2, 1u);
      ASSERT_LE(ColdStore::StepOf(target.step), step + 1000);
      ASSERT_GE(ColdStore::StepOf(target.step), 1000);
      ASSERT_EQ(read[0], std::byte{1});
      for (int64_t i = 1; i < kBytes; ++i) ASSERT_EQ(read[i], i < 100 ? std::byte{7} : std::byte{0});
    }
  }
  store->KeepShort(100, nullptr);
}

// Of the threads of this process that have the name, the greatest; -1 if there is none.
int NicenessOfThreads(const std::string& name) {
  int greatest = -1;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string its_name;
    std::getline(std::ifstream(task.path() / "comm"), its_name);
    if (its_name == name) greatest = std::max(greatest, getpriority(PRIO_PROCESS, std::stoi(task.path().filename())));
  }
  return greatest;
}

// A thread learns of its priority with its first work.
TEST(ColdStoreTest, CompactionsTakeWhatIsLeftOfTheProcessors) {
  TempDir dir;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  const std::vector<std::byte> bytes(kBytes, std::byte{7});
  for (int64_t step = 0; NicenessOfThreads("rocksdb:low") < 19; ++step) {
    ASSERT_LT(step, 1000) << "no compaction, or none of low priority";
    std::vector<ColdStore::Record> records;
    for (uint64_t key = 0; key < 40; ++key) records.push_back({key, step, bytes.data()});
    ASSERT_TRUE(store->Write(records).ok());
    ASSERT_TRUE(store->Flush().ok());
  }
  EXPECT_EQ(NicenessOfThreads("rocksdb:high"), getpriority(PRIO_PROCESS, 0)) << "rows wait for flushes";
}

TEST(ColdStoreTest, NotesLieBesideRecords) {
  TempDir dir;
  Model model;
  std::unique_ptr<ColdStore> store = MustOpen(dir.File("rows"));
  EXPECT_TRUE(absl::IsNotFound(store->GetNote("state").status()));
  model.Put(store.get(), RandomKeys(2000, 1), 0);
  ASSERT_TRUE(store->Flush().ok());
  ASSERT_TRUE(store->PutNote("state", "old").ok());
  const std::string large(3 << 20, 'n');
  ASSERT_TRUE(store->PutNote("bitmap", large).ok());
  ASSERT_TRUE(store->PutNote("state", std::string("n\0w", 3)).ok());
  ASSERT_TRUE(store->LinkTo(dir.File("save")).ok());
  store.reset();
  for (const char* folder : {"rows", "save"}) {
    store = MustOpen(dir.File(folder));
    model.Check(store.get());
    EXPECT_EQ(*store->GetNote("state"), std::string("n\0w", 3));
    EXPECT_EQ(*store->GetNote("bitmap"), large);
    EXPECT_EQ(store->statistics().record_count_estimate, 2000);
  }
}

}  // namespace
}  // namespace myriad
