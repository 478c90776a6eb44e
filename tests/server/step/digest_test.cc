#include "server/step/digest.h"

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

// Shards of different builds compare digests: the value is part of the protocol.
TEST(DigestTest, IsXxh3Of128Bits) {
  // xxhsum -H2 of no bytes.
  EXPECT_EQ(absl::BytesToHexString(Digester().Finish()), "99aa06d3014798d86001c324468d497f");
}

TEST(DigestTest, BordersBetweenFieldsCount) {
  EXPECT_NE(Digester().Add("ab").Add("c").Finish(), Digester().Add("a").Add("bc").Finish());
  EXPECT_EQ(Digester().Add("ab").Add("c").Finish(), Digester().Add("ab").Add("c").Finish());
  EXPECT_NE(Digester().Add(int64_t{1}).Finish(), Digester().Add(1.0).Finish());
}

}  // namespace
}  // namespace myriad
