// A real server over a store that it cannot use, in part or at all: held by another, not to be written, of another head, damaged. It says
// what is wrong and where, changes nothing, and does not come down by what lies in a file.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/head_client.h"
#include "gtest/gtest.h"
#include "tests/chaos/store_server.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kClasses = 600;
constexpr int kDim = 64;

class DamagedStoreTest : public ::testing::Test {
 protected:
  DamagedStoreTest() { options_.store = dir_.File("store"); }

  std::unique_ptr<StoreServer> Start() {
    auto server = std::make_unique<StoreServer>(options_);
    EXPECT_TRUE(server->WaitUntilItServes()) << server->Log();
    return server;
  }

  static HeadClient::Options ClientOptions(const StoreServer& server) {
    HeadClient::Options options;
    options.head.name = "faces";
    options.head.class_count = kClasses;
    options.head.embedding_dim = kDim;
    options.training.sampler.kind = SamplerOptions::Kind::kAll;
    options.shard_addresses = {server.address()};
    options.shard_wait = absl::Seconds(1);
    return options;
  }

  static absl::StatusOr<std::unique_ptr<HeadClient>> Open(const HeadClient::Options& options) {
    auto client = HeadClient::Create(options);
    if (!client.ok()) return client;
    const auto incarnation = (*client)->MintIncarnation();
    if (!incarnation.ok()) return incarnation.status();
    const auto step = (*client)->Open(*incarnation);
    if (!step.ok()) return step.status();
    return client;
  }

  // All rows move.
  static absl::Status Step(HeadClient* client, int64_t step) {
    const std::vector<int64_t> labels = {1, 200, 599};
    StepInput input;
    input.step = step;
    input.learning_rate = 0.1;
    input.embeddings = at::sin(at::arange(3 * kDim, at::kFloat)).view({3, kDim});
    input.labels = labels;
    return client->Step(input).status();
  }

  // A store in which all rows lie as step 0 left them, without a server.
  void MakeStore() {
    const auto server = Start();
    auto client = Open(ClientOptions(*server));
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::Status status = Step(client->get(), 0);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(server->Stop().ok()) << server->Log();
  }

  // The store is whole: a run goes on from its one step.
  void CheckStore() {
    const auto server = Start();
    auto client = Open(ClientOptions(*server));
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::Status status = Step(client->get(), 1);
    EXPECT_TRUE(status.ok()) << status;
  }

  // Starts a server that must not come up. What it said: one line that names the store.
  void CheckRefused(const std::string& text) {
    StoreServer server(options_);
    EXPECT_FALSE(server.WaitUntilItServes());
    const ProcessExit exit = server.Wait();
    EXPECT_EQ(exit.signal, 0);
    EXPECT_EQ(exit.code, 1);
    const std::string said = server.Log();
    EXPECT_TRUE(absl::StartsWith(said, "myriad-server: ")) << said;
    EXPECT_LE(std::count(said.begin(), said.end(), '\n'), 1) << said;
    EXPECT_TRUE(absl::StrContains(said, options_.store)) << said;
    EXPECT_TRUE(absl::StrContains(said, text)) << said;
  }

  // Starts a server that serves, but not this head. What it says names the store.
  void CheckUnusable() {
    const auto server = Start();
    const absl::Status status = Open(ClientOptions(*server)).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), options_.store)) << status;
    EXPECT_EQ(server->Stop().signal, 0) << server->Log();
  }

  // Files and folders of the store.
  std::vector<fs::path> Entries() const {
    std::vector<fs::path> entries;
    for (const auto& entry : fs::recursive_directory_iterator(options_.store)) entries.push_back(entry.path());
    std::sort(entries.begin(), entries.end());
    return entries;
  }

  TempDir dir_;
  StoreServer::Options options_;
};

TEST_F(DamagedStoreTest, AStoreThatAnotherServerHoldsIsRefusedAndNamed) {
  MakeStore();
  const auto first = Start();
  CheckRefused("another server");
  // The first one has not noticed.
  auto client = Open(ClientOptions(*first));
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::Status status = Step(client->get(), 1);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(DamagedStoreTest, AStoreThatCannotBeWrittenIsRefusedAndNamed) {
  MakeStore();
  // Root may write anywhere: the server goes without that right.
  if (::geteuid() == 0) options_.launcher = {"/usr/bin/setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"};
  std::vector<fs::path> folders = {options_.store};
  for (const fs::path& entry : Entries()) {
    if (fs::is_directory(entry)) folders.push_back(entry);
  }
  for (const fs::path& folder : folders) ASSERT_EQ(::chmod(folder.c_str(), 0555), 0);
  CheckRefused("");
  for (const fs::path& folder : folders) ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  options_.launcher.clear();
  CheckStore();
}

TEST_F(DamagedStoreTest, AHeadOfAnotherSpecIsRefusedWithBothValues) {
  MakeStore();
  const auto server = Start();
  const std::vector<std::pair<std::function<void(HeadSpec*)>, std::vector<std::string>>> cases = {
      {[](HeadSpec* head) { head->embedding_dim = 128; }, {"embedding_dim", "64", "128"}},
      {[](HeadSpec* head) { head->seed = 77; }, {"seed", "0", "77"}},
      {[](HeadSpec* head) { head->class_count = 601; }, {"class_count", "600", "601"}}};
  for (const auto& [change, texts] : cases) {
    HeadClient::Options options = ClientOptions(*server);
    change(&options.head);
    const absl::Status status = Open(options).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    for (const std::string& text : texts) EXPECT_TRUE(absl::StrContains(status.message(), text)) << status;
  }
  auto client = Open(ClientOptions(*server));
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::Status status = Step(client->get(), 1);
  EXPECT_TRUE(status.ok()) << status;
}

void FlipBit(const fs::path& path, int64_t bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(bit / 8);
  const char byte = static_cast<char>(file.get() ^ (1 << (bit % 8)));
  file.seekp(bit / 8);
  file.put(byte);
  ASSERT_TRUE(file.good());
}

// In a file of rows: either the server does not come up, or a step over all rows ends with what names shard, class and store, again and
// again, and the server lives.
TEST_F(DamagedStoreTest, AFlippedBitEndsTheStepWithShardClassAndPath) {
  MakeStore();
  fs::path largest;
  for (const fs::path& file : Entries()) {
    if (file.extension() == ".sst" && (largest.empty() || fs::file_size(file) > fs::file_size(largest))) largest = file;
  }
  ASSERT_FALSE(largest.empty());
  std::mt19937_64 random(1);
  int told = 0;
  for (int flip = 0; flip < 6; ++flip) {
    // In the data, which come first: what follows them is not read again once the file is open.
    const int64_t bit = static_cast<int64_t>(random() % (fs::file_size(largest) / 2 * 8));
    SCOPED_TRACE(absl::StrCat("bit ", bit, " of ", largest.string()));
    FlipBit(largest, bit);
    StoreServer server(options_);
    if (server.WaitUntilItServes()) {
      auto client = Open(ClientOptions(server));
      ASSERT_TRUE(client.ok()) << client.status();
      for (int attempt = 0; attempt < 2; ++attempt) {
        const absl::Status status = Step(client->get(), 1);
        EXPECT_TRUE(absl::IsDataLoss(status)) << status;
        for (const std::string& text : {std::string("shard 0"), std::string("class "), options_.store}) {
          EXPECT_TRUE(absl::StrContains(status.message(), text)) << status;
        }
      }
      EXPECT_TRUE(client->get()->MintIncarnation().ok());
      EXPECT_EQ(server.Stop().signal, 0) << server.Log();
      ++told;
    } else {
      EXPECT_EQ(server.Wait().code, 1) << server.Log();
    }
    FlipBit(largest, bit);
  }
  EXPECT_GT(told, 0);
  CheckStore();
}

// Nothing is made anew in the place of what is missing, and nothing else is removed.
TEST_F(DamagedStoreTest, AHeadWithoutOneOfItsFilesIsRefusedAndLeftAlone) {
  MakeStore();
  const std::vector<fs::path> entries = Entries();
  int refused = 0;
  for (const fs::path& file : entries) {
    const std::string name = file.filename();
    if (file.extension() != ".sst" && name != "CURRENT" && !absl::StartsWith(name, "MANIFEST")) continue;
    SCOPED_TRACE(file.string());
    const std::string aside = dir_.File("aside");
    fs::rename(file, aside);
    CheckUnusable();
    ASSERT_TRUE(fs::exists(file.parent_path()));
    fs::rename(aside, file);
    ++refused;
  }
  EXPECT_GE(refused, 3);
  for (const fs::path& entry : entries) EXPECT_TRUE(fs::exists(entry) || entry.filename() == "LOG") << entry;
  CheckStore();
}

}  // namespace
}  // namespace myriad
