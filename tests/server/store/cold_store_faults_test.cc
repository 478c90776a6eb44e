// What a cold store does on a disk that is full, fails, cannot be written to or returns something else than was written.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <rocksdb/file_system.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/store/cold_store.h"
#include "server/store/cold_store_rocksdb.h"
#include "server/store/row_key.h"
#include "tests/testing/server/faulty_files.h"
#include "tests/testing/server/table_files.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using rocksdb::IOStatus;

constexpr int64_t kBytes = 300;

// A store on a disk that fails on demand, and what was accepted by it.
struct Rig {
  TempDir dir;
  std::shared_ptr<FaultyFiles> files = std::make_shared<FaultyFiles>();
  ColdStore::Options options;
  std::unique_ptr<ColdStore> store;
  std::map<uint64_t, int64_t> steps;

  // `run_bytes`: writes of as much go as sorted runs.
  explicit Rig(int64_t run_bytes) {
    options.folder = dir.File("rows");
    options.record_bytes = kBytes;
    options.io_threads = 4;
    options.tuning.run_bytes = run_bytes;
    Open();
  }
  void Open() {
    store.reset();
    auto opened = OpenColdStoreOn(files, options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store = *std::move(opened);
  }
  static std::vector<std::byte> BytesOf(uint64_t key, int64_t step) {
    return std::vector<std::byte>(kBytes, static_cast<std::byte>(key * 31 + step));
  }
  absl::Status Write(const std::vector<uint64_t>& keys, int64_t step) {
    std::vector<std::vector<std::byte>> bytes;
    for (const uint64_t key : keys) bytes.push_back(BytesOf(key, step));
    std::vector<ColdStore::Record> records;
    for (size_t i = 0; i < keys.size(); ++i) records.push_back({keys[i], step, bytes[i].data()});
    const absl::Status status = store->Write(records);
    for (size_t i = 0; status.ok() && i < keys.size(); ++i) steps[keys[i]] = step;
    return status;
  }
  // The store tries again by itself: what it holds is written within some of its tries.
  absl::Status FlushOnceItCan() {
    absl::Status status = store->Flush();
    for (int i = 0; i < 100 && !status.ok(); ++i) {
      absl::SleepFor(absl::Milliseconds(50));
      status = store->Flush();
    }
    return status;
  }
  void Check() const {
    std::vector<std::byte> bytes(steps.size() * kBytes);
    std::vector<ColdStore::Target> targets;
    for (const auto& [key, step] : steps) targets.push_back({key, bytes.data() + targets.size() * kBytes, 0});
    const absl::Status status = store->Read(absl::MakeSpan(targets));
    ASSERT_TRUE(status.ok()) << status;
    for (const ColdStore::Target& target : targets) {
      EXPECT_EQ(target.step, steps.at(target.key));
      EXPECT_EQ(std::vector<std::byte>(target.bytes, target.bytes + kBytes), BytesOf(target.key, target.step)) << target.key;
    }
  }
};

std::vector<uint64_t> Keys(uint64_t first, int count, uint64_t stride = 3) {
  std::vector<uint64_t> keys;
  for (int i = 0; i < count; ++i) keys.push_back(first + i * stride);
  return keys;
}

struct Fault {
  const char* name;
  FaultyFiles::Hook hook;
  absl::StatusCode code;
  const char* says;
};
const Fault kWriteFaults[] = {
    {"DiskFull", DiskFull, absl::StatusCode::kResourceExhausted, "No space left on device"},
    {"IoError", WritesFail, absl::StatusCode::kUnavailable, "Input/output error"},
};

TEST(ColdStoreFaultsTest, ARunThatCannotBeWrittenIsRefusedAndWrittenLater) {
  for (const Fault& fault : kWriteFaults) {
    SCOPED_TRACE(fault.name);
    Rig rig(/*run_bytes=*/1);
    const std::vector<uint64_t> keys = Keys(0, 800, /*stride=*/1);
    ASSERT_TRUE(rig.Write(Keys(0, 500, /*stride=*/1), 1).ok());
    rig.files->SetHook(fault.hook);
    const absl::Status refused = rig.Write(keys, 2);
    EXPECT_EQ(refused.code(), fault.code) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), rig.options.folder)) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), fault.says)) << refused;
    EXPECT_EQ(ColdStore::KeyOf(refused), std::make_optional<uint64_t>(0)) << "the first of those that were to be written";
    rig.Check();
    rig.files->SetHook(nullptr);
    EXPECT_TRUE(rig.Write(keys, 2).ok());
    rig.Check();
    rig.Open();
    rig.Check();
  }
}

// Of more tables than are taken in at a time: those that were in before the disk failed stay, and no other one is left in the folder.
TEST(ColdStoreFaultsTest, ALongRunThatCannotBeWrittenLeavesNoTablesBesideTheStore) {
  constexpr int64_t kLargeBytes = 256 << 10;
  constexpr uint64_t kPartitions = 60;
  constexpr uint64_t kRows = 16;  // Of a partition: a table.
  const std::vector<std::byte> bytes(kLargeBytes, std::byte{7});
  for (const Fault& fault : kWriteFaults) {
    SCOPED_TRACE(fault.name);
    TempDir dir;
    ColdStore::Options options;
    options.folder = dir.File("rows");
    options.record_bytes = kLargeBytes;
    auto files = std::make_shared<FaultyFiles>();
    auto store = OpenColdStoreOn(files, options);
    ASSERT_TRUE(store.ok()) << store.status();
    const auto ingest = [&](std::function<void(uint64_t given)> before) {
      uint64_t given = 0;
      return (*store)->Ingest([&](ColdStore::Record* record) {
        if (given == kPartitions * kRows) return false;
        before(given);
        *record = {given / kRows << kRowKeyIndexBits | given % kRows, 3, bytes.data()};
        ++given;
        return true;
      });
    };
    const absl::Status refused = ingest([&](uint64_t given) {
      if (given == 55 * kRows) files->SetHook(fault.hook);
    });
    EXPECT_EQ(refused.code(), fault.code) << refused;
    const auto count = [&] {
      uint64_t records = 0;
      const absl::Status status = (*store)->Scan(0, ~uint64_t{0}, [&](const ColdStore::Record& record) {
        EXPECT_EQ(record.key, records / kRows << kRowKeyIndexBits | records % kRows);
        ++records;
        return absl::OkStatus();
      });
      EXPECT_TRUE(status.ok()) << status;
      return records;
    };
    files->SetHook(nullptr);
    const uint64_t there = count();
    EXPECT_GE(there, 32 * kRows);
    EXPECT_LT(there, kPartitions * kRows);
    EXPECT_EQ(FreshTableFilesIn(options.folder), std::set<std::string>());
    const absl::Status taken = ingest([](uint64_t) {});
    EXPECT_TRUE(taken.ok()) << taken;
    EXPECT_EQ(count(), kPartitions * kRows);
  }
}

TEST(ColdStoreFaultsTest, RecordsInMemtablesOutliveADiskThatFails) {
  for (const Fault& fault : kWriteFaults) {
    SCOPED_TRACE(fault.name);
    Rig rig(/*run_bytes=*/1 << 30);
    ASSERT_TRUE(rig.Write(Keys(0, 500), 1).ok());
    ASSERT_TRUE(rig.store->Flush().ok());
    rig.files->SetHook(fault.hook);
    ASSERT_TRUE(rig.Write(Keys(0, 800), 2).ok());
    const absl::Status refused = rig.store->Flush();
    EXPECT_EQ(refused.code(), fault.code) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), rig.options.folder)) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), fault.says)) << refused;
    rig.Check();
    EXPECT_EQ(rig.store->PutNote("state", "new").code(), fault.code);
    rig.files->SetHook(nullptr);
    const absl::Status flushed = rig.FlushOnceItCan();
    ASSERT_TRUE(flushed.ok()) << flushed;
    ASSERT_TRUE(rig.store->PutNote("state", "newest").ok());
    ASSERT_TRUE(rig.Write(Keys(1, 800), 3).ok());
    ASSERT_TRUE(rig.store->Flush().ok());
    rig.Open();
    rig.Check();
    EXPECT_EQ(*rig.store->GetNote("state"), "newest");
  }
}

// Memtables have room for a few steps; then writes say why they are refused. They do not wait for the disk.
TEST(ColdStoreFaultsTest, WritesDoNotWaitForADiskThatIsFull) {
  Rig rig(/*run_bytes=*/1 << 30);
  rig.files->SetHook(DiskFull);
  absl::Status refused;
  int64_t step = 0;
  for (; refused.ok() && step < 100; ++step) refused = rig.Write(Keys(0, 5000), step);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  rig.files->SetHook(nullptr);
  const absl::Status flushed = rig.FlushOnceItCan();
  ASSERT_TRUE(flushed.ok()) << flushed;
  ASSERT_TRUE(rig.Write(Keys(0, 5000), step).ok());
  ASSERT_TRUE(rig.store->Flush().ok());
  rig.Open();
  rig.Check();
}

TEST(ColdStoreFaultsTest, AReadThatFailsNamesTheRecordAndSucceedsLater) {
  Rig rig(/*run_bytes=*/1);
  ASSERT_TRUE(rig.Write({7, 1000, 2000}, 1).ok());
  ASSERT_TRUE(rig.store->Flush().ok());
  rig.files->SetHook(ReadsFail);
  std::vector<std::byte> bytes(kBytes);
  std::vector<ColdStore::Target> targets = {{1000, bytes.data(), 0}};
  const absl::Status status = rig.store->Read(absl::MakeSpan(targets));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "record 1000")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), rig.options.folder)) << status;
  rig.files->SetHook(nullptr);
  rig.Check();
}

// Some rows of a stretch were written alone since: while these records cannot be read, the older ones must not stand for them.
TEST(ColdStoreFaultsTest, AScatteredRecordThatCannotBeReadIsNotTakenForAnOlderOne) {
  Rig rig(/*run_bytes=*/200 * kBytes);
  ASSERT_TRUE(rig.Write(Keys(0, 1000, /*stride=*/1), 1).ok());
  ASSERT_TRUE(rig.store->Flush().ok());
  const std::set<std::string> of_stretches = TableFilesIn(rig.options.folder);
  ASSERT_TRUE(rig.Write(Keys(100, 40, /*stride=*/20), 2).ok());
  ASSERT_TRUE(rig.store->Flush().ok());
  ASSERT_GT(TableFilesIn(rig.options.folder).size(), of_stretches.size());
  rig.files->SetHook([&](FaultyFiles::Access access, const std::string& path) {
    const bool fails = access == FaultyFiles::Access::kRead && absl::EndsWith(path, ".sst") && of_stretches.count(path) == 0;
    return fails ? IOStatus::IOError(path, "Input/output error") : IOStatus::OK();
  });
  const auto scan = [&] {
    uint64_t next = 0;
    const absl::Status status = rig.store->Scan(0, ~uint64_t{0}, [&](const ColdStore::Record& record) {
      EXPECT_EQ(record.key, next++);
      EXPECT_EQ(record.step, rig.steps.at(record.key)) << record.key;
      return absl::OkStatus();
    });
    return std::make_pair(status, next);
  };
  EXPECT_TRUE(absl::IsUnavailable(scan().first)) << scan().first;
  std::vector<std::byte> bytes(kBytes);
  ColdStore::Target target{120, bytes.data(), 0};
  const absl::Status read = rig.store->Read(absl::MakeSpan(&target, 1));
  EXPECT_TRUE(absl::IsUnavailable(read)) << read << ", of step " << target.step;
  rig.files->SetHook(nullptr);
  EXPECT_TRUE(scan().first.ok()) << scan().first;
  EXPECT_EQ(scan().second, 1000u);
  rig.Check();
}

TEST(ColdStoreFaultsTest, AFolderThatCannotBeWrittenToIsRefused) {
  Rig rig(/*run_bytes=*/1);
  rig.store.reset();
  rig.files->SetHook([](FaultyFiles::Access access, const std::string& path) {
    return access == FaultyFiles::Access::kRead ? IOStatus::OK() : IOStatus::IOError("While open a file: " + path, "Read-only file system");
  });
  const absl::Status status = OpenColdStoreOn(rig.files, rig.options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), rig.options.folder)) << status;
}

TEST(ColdStoreFaultsTest, WhateverFailsNothingThatWasAcceptedIsLost) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 random(seed);
    Rig rig(/*run_bytes=*/200 * kBytes);
    for (int64_t step = 0; step < 40; ++step) {
      if (random() % 3 == 0) {
        // Some accesses fail, others do not.
        auto fault_random = std::make_shared<std::mt19937_64>(random());
        const FaultyFiles::Hook fault = random() % 2 == 0 ? DiskFull : WritesFail;
        rig.files->SetHook([fault_random, fault](FaultyFiles::Access access, const std::string& path) {
          return (*fault_random)() % 4 == 0 ? fault(access, path) : IOStatus::OK();
        });
      }
      // In a row, and apart.
      const std::vector<uint64_t> keys = Keys(random() % 2000, 1 + static_cast<int>(random() % 600), random() % 2 == 0 ? 1 : 3);
      const absl::Status written = rig.Write(keys, step);
      const bool flush = random() % 3 == 0;
      if (flush) rig.store->Flush().IgnoreError();
      rig.files->SetHook(nullptr);
      if (!written.ok()) {
        const absl::Status again = rig.Write(keys, step);
        ASSERT_TRUE(again.ok() || rig.FlushOnceItCan().ok()) << again;
        if (!again.ok()) {
          ASSERT_TRUE(rig.Write(keys, step).ok());
        }
      }
      rig.Check();
    }
    ASSERT_TRUE(rig.FlushOnceItCan().ok());
    rig.Open();
    rig.Check();
  }
}

}  // namespace
}  // namespace myriad
