#include "server/step/row_gate.h"

#include <string>

#include "gtest/gtest.h"

namespace myriad {
namespace {

TEST(RowGateTest, ReadersGoTogetherWritersAloneInTheOrderOfTheirComing) {
  RowGate gate;
  std::string log;
  const auto enter = [&](bool exclusive, char name) { gate.Acquire(exclusive, [&log, name] { log += name; }); };
  enter(false, 'a');
  enter(false, 'b');
  EXPECT_EQ(log, "ab");
  enter(true, 'W');
  enter(false, 'c');  // Behind the writer, or readers could keep it out for ever.
  enter(true, 'X');
  EXPECT_EQ(log, "ab");
  gate.Release();
  EXPECT_EQ(log, "ab");
  gate.Release();
  EXPECT_EQ(log, "abW");
  gate.Release();
  EXPECT_EQ(log, "abWc");
  gate.Release();
  EXPECT_EQ(log, "abWcX");
  gate.Release();
  enter(true, 'Y');
  EXPECT_EQ(log, "abWcXY");
}

}  // namespace
}  // namespace myriad
