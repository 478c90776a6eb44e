#include "client/pickle_reader.h"

#include <sys/resource.h>

#include <cstdint>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/client/torch_bytes.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using namespace myriad::testing;  // NOLINT: pieces of pickles.
using Kind = Pickle::Kind;

absl::StatusOr<Pickle> Parse(const std::string& value) { return Pickle::Parse(PickleOf(value)); }

TEST(PickleReaderTest, DictsListsAndNumbersComeOut) {
  // {"a": [1, -2, 300, True, None], "b": {"c": "text"}} with the inner dict put into the memo and got again as "d".
  const std::string inner = Dict({{"c", Text("text")}}) + "q\x07";
  const auto pickle = Parse(Dict({{"a", "](K\x01" + Int(-2) + "M" + Raw<uint16_t>(300) + "\x88Ne"}, {"b", inner}, {"d", "h\x07"}}));
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  const Pickle::Node& root = pickle->node(pickle->root());
  ASSERT_EQ(root.kind, Kind::kDict);
  ASSERT_EQ(root.items.size(), 6u);
  EXPECT_EQ(pickle->node(root.items[0]).text, "a");
  const Pickle::Node& list = pickle->node(root.items[1]);
  ASSERT_EQ(list.items.size(), 5u);
  EXPECT_EQ(pickle->node(list.items[0]).number, 1);
  EXPECT_EQ(pickle->node(list.items[1]).number, -2);
  EXPECT_EQ(pickle->node(list.items[2]).number, 300);
  EXPECT_EQ(pickle->node(list.items[3]).kind, Kind::kBool);
  EXPECT_EQ(pickle->node(list.items[4]).kind, Kind::kNone);
  EXPECT_EQ(root.items[3], root.items[5]);
  EXPECT_EQ(pickle->node(pickle->node(root.items[3]).items[1]).text, "text");
}

TEST(PickleReaderTest, AnOrderedDictIsADict) {
  const auto pickle = Parse(Name("collections", "OrderedDict") + ")R(" + Text("k") + "K\x05u}b");
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  const Pickle::Node& root = pickle->node(pickle->root());
  EXPECT_EQ(root.kind, Kind::kDict);
  ASSERT_EQ(root.items.size(), 2u);
  EXPECT_EQ(pickle->node(root.items[1]).number, 5);
}

// What a pickle wants to call stays a name with arguments, whatever it is.
TEST(PickleReaderTest, NothingIsCalled) {
  const auto pickle = Parse(Name("os", "system") + Tuple({Text("touch /tmp/pickled")}) + "R");
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  const Pickle::Node& call = pickle->node(pickle->root());
  ASSERT_EQ(call.kind, Kind::kCall);
  EXPECT_EQ(pickle->node(call.items[0]).text, "os system");
  EXPECT_EQ(pickle->node(call.items[0]).kind, Kind::kName);
}

TEST(PickleReaderTest, WhatIsNoPickleIsRefusedWithTheByte) {
  struct Case {
    std::string bytes;
    absl::StatusCode code;
    std::string message;
  };
  std::string bombs = "](";
  for (int i = 0; i < 200; ++i) bombs += Tuple({"K\x01", "K\x02"});
  bombs += "eq\x01" + std::string("0(");
  for (int i = 0; i < 2000; ++i) bombs += Name("collections", "OrderedDict") + "(h\x01tR";
  const std::vector<Case> cases = {
      {"", absl::StatusCode::kDataLoss, "ends at byte 0"},
      {"\x80\x02", absl::StatusCode::kDataLoss, "ends at byte 2"},
      {std::string("\x80\x02X\xff\xff\xff\x7f") + "abc", absl::StatusCode::kDataLoss, "cut short"},
      {"\x80\x01.", absl::StatusCode::kInvalidArgument, "byte 0: protocol 1"},
      {"\x80\x02.", absl::StatusCode::kInvalidArgument, "byte 2: the stack is empty"},
      {"\x80\x02t.", absl::StatusCode::kInvalidArgument, "no mark"},
      {"\x80\x02h\x03.", absl::StatusCode::kInvalidArgument, "never put"},
      {"\x80\x02NNs.", absl::StatusCode::kInvalidArgument, "stack is empty"},
      {"\x80\x02N(NNu.", absl::StatusCode::kInvalidArgument, "items for what takes none"},
      {"\x80\x02}(Nu.", absl::StatusCode::kInvalidArgument, "key without a value"},
      {"\x80\x02\xff.", absl::StatusCode::kInvalidArgument, "opcode 0xff"},
      {PickleOf(Name(std::string(2000, 'a'), "b")), absl::StatusCode::kInvalidArgument, "too long"},
      {PickleOf(bombs + "t"), absl::StatusCode::kInvalidArgument, "too many pairs"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    const absl::Status status = Pickle::Parse(bad.bytes).status();
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

int64_t PeakMemory() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// Repeats a piece until a pickle is as long as the longest that is read of a file.
std::string Repeated(const std::string& begin, const std::string& piece) {
  std::string bytes = begin;
  while (bytes.size() < size_t{16} << 20) bytes += piece;
  return bytes;
}

// A byte of a pickle can make an object of many; that ends before the memory does.
TEST(PickleReaderTest, APickleThatWouldFillTheMemoryIsRefused) {
  const std::string module = Text(std::string(500, 'm')) + "q\x01" + Text(std::string(500, 'n')) + "q\x02";
  const std::string list = "](" + std::string(200, 'N') + "eq\x03";
  struct Case {
    std::string begin, piece, message;
  };
  const std::vector<Case> cases = {
      {"\x80\x04", "N", "too many objects"},                   // Objects,
      {"\x80\x04", "(", "too many objects"},                   // marks,
      {"\x80\x04N", std::string("\x94"), "too many objects"},  // memo entries,
      {"\x80\x04" + module,
       "h\x01h\x02\x93"
       "0",
       "too many names"},  // names put together of texts that are there once,
      {"\x80\x04" + list,
       "h\x03"
       "0",
       "cut short"},  // and what costs nothing.
  };
  const int64_t before = PeakMemory();
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    const absl::Status status = Pickle::Parse(Repeated(bad.begin, bad.piece)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
  EXPECT_LT(PeakMemory() - before, int64_t{512} << 20);
}

// However a pickle is cut or bent, the answer is a value or a status.
TEST(PickleReaderTest, CutAndBentBytesDoNoHarm) {
  const std::string good = PickleOf(Dict({{"w", Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})}, {"l", "](NNe"}, {"n", Int(7)}}));
  ASSERT_TRUE(Pickle::Parse(good).ok());
  for (size_t length = 0; length < good.size(); ++length) EXPECT_FALSE(Pickle::Parse(absl::MakeConstSpan(good.data(), length)).ok());
  std::mt19937 rng(1);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bent = good;
    for (int changes = 1 + static_cast<int>(rng() % 3); changes > 0; --changes) bent[rng() % bent.size()] = static_cast<char>(rng());
    const absl::Status status = Pickle::Parse(bent).status();
    refused += status.ok() ? 0 : 1;
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) << status;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace myriad
