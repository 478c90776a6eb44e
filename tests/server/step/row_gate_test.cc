#include "server/step/row_gate.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace myriad {
namespace {

// Who got the rows, in order: letters of readers are small. Small letters followed by '!' were asked to yield.
class RowGateTest : public ::testing::Test {
 protected:
  void Take(char name) {
    gate_.Acquire([this, name] { log_ += name; });
  }
  void Read(char name) {
    gate_.AcquireShared(
        [this, name](RowGate::ReaderId id) {
          log_ += name;
          ids_[name] = id;
        },
        [this, name] { log_ += std::string(1, name) + "!"; });
  }
  void EndRead(char name) { gate_.ReleaseShared(ids_.at(name)); }

  RowGate gate_;
  std::string log_;
  std::map<char, RowGate::ReaderId> ids_;
};

TEST_F(RowGateTest, ReadersGoTogetherWritersAloneInTheOrderOfTheirComing) {
  Read('a');
  Read('b');
  EXPECT_EQ(log_, "ab");
  Take('W');
  Read('c');  // Behind the writer, or readers could keep it out for ever.
  Take('X');
  EXPECT_EQ(log_, "ab");
  EndRead('b');
  EXPECT_EQ(log_, "ab");
  EndRead('a');
  EXPECT_EQ(log_, "abW");
  gate_.Release();
  EXPECT_EQ(log_, "abWc");
  EndRead('c');
  EXPECT_EQ(log_, "abWcX");
  gate_.Release();
  Take('Y');
  EXPECT_EQ(log_, "abWcXY");
}

TEST_F(RowGateTest, OnlyThoseThatReadNowAreAskedToYield) {
  gate_.AskReadersToYield();
  Read('a');
  Read('b');
  EndRead('a');
  Take('W');
  Read('c');
  gate_.AskReadersToYield();
  EXPECT_EQ(log_, "abb!");
  EndRead('b');
  gate_.Release();
  gate_.AskReadersToYield();
  EXPECT_EQ(log_, "abb!Wcc!");
}

}  // namespace
}  // namespace myriad
