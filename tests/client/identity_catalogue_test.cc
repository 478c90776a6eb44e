#include "client/identity_catalogue.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

TEST(IdentityCatalogueTest, IdsAreLineNumbersAndSurviveAFile) {
  TempDir dir;
  IdentityCatalogue catalogue;
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(*catalogue.Append(absl::StrCat("名 ", i)), i);
  IdentityCatalogue moved = std::move(catalogue);
  ASSERT_TRUE(moved.Save(dir.File("identities.tsv")).ok());
  const auto loaded = IdentityCatalogue::Load(dir.File("identities.tsv"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->size(), 5000);
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(*loaded->IdOf(absl::StrCat("名 ", i)), i);
    EXPECT_EQ(loaded->NameOf(i), absl::StrCat("名 ", i));
  }
  EXPECT_EQ(loaded->IdOf("名 5000").status().code(), absl::StatusCode::kNotFound);
}

TEST(IdentityCatalogueTest, NamesThatExistOrThatAFileCannotHoldAreRefused) {
  IdentityCatalogue catalogue;
  ASSERT_TRUE(catalogue.Append("a").ok());
  const absl::Status twice = catalogue.Append("a").status();
  EXPECT_EQ(twice.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(twice.message(), HasSubstr("'a' is already that of class 0"));
  for (const std::string& bad : {std::string(), std::string("a\tb"), std::string("a\nb"), std::string("a\0b", 3), std::string("a\r")}) {
    EXPECT_EQ(catalogue.Append(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(catalogue.size(), 1);
}

TEST(IdentityCatalogueTest, ABadLineOfAFileIsNamed) {
  TempDir dir;
  const std::string path = dir.File("identities.tsv");
  WriteText(path, "a\nb\na\n");
  EXPECT_THAT(IdentityCatalogue::Load(path).status().message(), HasSubstr(path + ":3: identity name 'a'"));
  WriteText(path, "a\n\nb\n");
  EXPECT_THAT(IdentityCatalogue::Load(path).status().message(), HasSubstr(path + ":2: "));
  WriteText(path, "a\nlast line without an end");
  EXPECT_EQ(IdentityCatalogue::Load(path)->NameOf(1), "last line without an end");
}

}  // namespace
}  // namespace myriad
