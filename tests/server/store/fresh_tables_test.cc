#include "server/store/fresh_tables.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace myriad {
namespace {

std::string RandomBytes(size_t count, std::mt19937_64& random) {
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// A file that is appended to, whose last bytes are written over as direct writes do it, and that is cut: both ends are kept, and no read
// that is answered differs from the file.
TEST(TableEndsTest, ReadsAsTheFileAtBothEnds) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    std::string file;
    TableEnds ends;
    const auto put = [&](uint64_t offset, const std::string& bytes) {
      file.resize(offset);
      file += bytes;
      ends.Put(offset, bytes);
    };
    const int writes = static_cast<int>(random() % 12);
    for (int i = 0; i < writes; ++i) {
      const uint64_t again = i == 0 ? 0 : std::min<uint64_t>(file.size(), random() % 512);
      put(file.size() - again, RandomBytes(again + random() % (random() % 2 == 0 ? 100000 : 900), random));
    }
    const uint64_t cut = std::min<uint64_t>(file.size(), random() % 512);
    file.resize(file.size() - cut);
    ends.Truncate(file.size());

    std::string read(file.size() + 1000, '\0');
    for (int i = 0; i < 200; ++i) {
      const uint64_t offset = random() % (file.size() + 10);
      const size_t size = std::min(file.size() + 500, random() % 3 == 0 ? random() % 40000 : random() % 5000);
      if (const std::optional<size_t> count = ends.Read(offset, size, read.data()); count) {
        ASSERT_EQ(read.substr(0, *count), offset < file.size() ? file.substr(offset, size) : "") << "seed " << seed;
      }
    }
    const size_t first = std::min(file.size(), TableEnds::kFirstBytes);
    ASSERT_EQ(ends.Read(0, first, read.data()), first) << "seed " << seed;
    ASSERT_EQ(read.substr(0, first), file.substr(0, first));
    // The cut takes of what was kept.
    const size_t last = std::min(file.size(), TableEnds::kLastBytes - cut);
    ASSERT_EQ(ends.Read(file.size() - last, last + 500, read.data()), last) << "seed " << seed;
    ASSERT_EQ(read.substr(0, last), file.substr(file.size() - last));
  }
}

TEST(TableEndsTest, WhatLiesBetweenIsNotKnown) {
  TableEnds ends;
  ends.Put(0, std::string(200000, 'a'));
  std::string read(10000, '\0');
  EXPECT_EQ(ends.Read(TableEnds::kFirstBytes, 100, read.data()), std::nullopt);
  EXPECT_EQ(ends.Read(0, TableEnds::kFirstBytes + 1, read.data()), std::nullopt);
  // Nor what a write has left out.
  ends.Put(300000, std::string(100, 'b'));
  EXPECT_EQ(ends.Read(299999, 10, read.data()), std::nullopt);
  EXPECT_EQ(ends.Read(300000, 100, read.data()), 100u);
}

TEST(FreshTablesTest, EndsAreKnownByBothNamesUntilTheFileIsRemoved) {
  EXPECT_TRUE(FreshTables::IsFresh("/store/rows/run-1.sst"));
  EXPECT_FALSE(FreshTables::IsFresh("/store/run-1/000012.sst"));
  FreshTables tables;
  tables.Add("/store/run-1.sst", std::make_shared<TableEnds>());
  EXPECT_TRUE(tables.Find("/store/000012.sst").expired());
  tables.Link("/store/run-1.sst", "/store/000012.sst");
  const std::weak_ptr<const TableEnds> by_name = tables.Find("/store/run-1.sst");
  const std::weak_ptr<const TableEnds> by_link = tables.Find("/store/000012.sst");
  EXPECT_FALSE(by_name.expired());
  EXPECT_EQ(by_name.lock(), by_link.lock());
  tables.Remove("/store/run-1.sst");
  EXPECT_TRUE(by_name.expired()) << "a file that is open reads the disk from here on";
  EXPECT_TRUE(by_link.expired());
  EXPECT_TRUE(tables.Find("/store/000012.sst").expired());
  tables.Link("/store/unknown.sst", "/store/000013.sst");
  EXPECT_TRUE(tables.Find("/store/000013.sst").expired());
}

}  // namespace
}  // namespace myriad
