#include "worker/job_catalogues.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "myriad/config/v1/job.pb.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobCataloguesTest : public ::testing::Test {
 protected:
  JobCataloguesTest() { config_.add_heads()->mutable_spec()->set_name("faces"); }

  std::string kept() const { return dir_.File("faces.identities.tsv"); }
  // What a run knows.
  absl::StatusOr<std::string> Load(bool resume = false) {
    const auto catalogues = LoadCatalogues(config_, {kept()}, resume, at::kCPU, collectives_.get());
    if (!catalogues.ok()) return catalogues.status();
    EXPECT_EQ(catalogues->size(), 1u);
    return std::string(catalogues->front().text());
  }
  absl::Status Check(const HeadOnShards& found, int64_t known_names) {
    return CheckKnownNames(config_.heads(0), found, known_names, "FILE");
  }

  TempDir dir_;
  config::v1::JobConfig config_;
  std::unique_ptr<Collectives> collectives_ = *Collectives::Connect({});
};

TEST_F(JobCataloguesTest, TheyLieBesideTheStoreOrInTheRunFolder) {
  const auto folder = RunFolder::Create(dir_.File("run"));
  ASSERT_TRUE(folder.ok());
  EXPECT_THAT(CataloguePaths(config_, "some/store", *folder), ElementsAre("some/store/faces.identities.tsv"));
  EXPECT_THAT(CataloguePaths(config_, "", *folder), ElementsAre(dir_.File("run/head/faces/identities.tsv")));
}

TEST_F(JobCataloguesTest, WhatARunLeavesTheNextOneKnows) {
  EXPECT_EQ(*Load(), "") << "a new head";
  std::vector<IdentityCatalogue> names;
  names.push_back(*IdentityCatalogue::Parse("ann\ncid\n", "test"));
  ASSERT_TRUE(SaveCatalogues(names, {kept()}).ok());
  EXPECT_EQ(*Load(), "ann\ncid\n");
  ASSERT_TRUE(names[0].Append("bob").ok());
  ASSERT_TRUE(SaveCatalogues(names, {kept()}).ok());
  EXPECT_EQ(*Load(), "ann\ncid\nbob\n");
  // In a folder that is not there yet.
  ASSERT_TRUE(SaveCatalogues(names, {dir_.File("new/deep/faces.identities.tsv")}).ok());
  EXPECT_EQ(ReadText(dir_.File("new/deep/faces.identities.tsv")), "ann\ncid\nbob\n");
}

TEST_F(JobCataloguesTest, OfTwoTheLongerOneCountsIfItBeginsWithTheOther) {
  config_.mutable_heads(0)->set_catalogue(dir_.File("given.tsv"));
  EXPECT_TRUE(absl::IsNotFound(Load().status())) << "a file that the user names must be there";
  EXPECT_EQ(*Load(/*resume=*/true), "") << "but not for ever";
  WriteText(dir_.File("given.tsv"), "ann\ncid\nbob\n");
  EXPECT_EQ(*Load(), "ann\ncid\nbob\n");
  WriteText(kept(), "ann\ncid\n");
  EXPECT_EQ(*Load(), "ann\ncid\nbob\n");
  WriteText(kept(), "ann\ncid\nbob\ndot\n");
  EXPECT_EQ(*Load(), "ann\ncid\nbob\ndot\n");
  WriteText(kept(), "ann\nbob\n");
  EXPECT_EQ(Load().status(),
            absl::FailedPreconditionError(absl::StrCat("class 1 is 'bob' in ", kept(), " and 'cid' in ", dir_.File("given.tsv"),
                                                       ": one of the catalogues must begin with all names of the other")));
}

TEST_F(JobCataloguesTest, RowsWithoutNamesAreTrainedOnlyIfTheUserSaysSo) {
  HeadOnShards found;
  found.class_count = 3;
  EXPECT_TRUE(Check(found, 0).ok()) << "no row yet: the ids are free";
  found.committed_steps = 8;
  found.row_count = 2;
  EXPECT_TRUE(Check(found, 3).ok());
  const absl::Status none = Check(found, 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(none));
  EXPECT_THAT(std::string(none.message()), HasSubstr("rows of head faces already (2, at step 8, 3 classes), and FILE, "));
  const absl::Status too_few = Check(found, 2);
  EXPECT_TRUE(absl::IsFailedPrecondition(too_few));
  EXPECT_THAT(std::string(too_few.message()), HasSubstr("only 2 names are known (FILE): name the catalogue that the head was grown with"));
  config_.mutable_heads(0)->mutable_spec()->set_class_count(3);
  EXPECT_TRUE(Check(found, 2).ok()) << "classes may have no name yet";
  EXPECT_FALSE(Check(found, 0).ok());
  // Imported, never trained.
  found.committed_steps = 0;
  EXPECT_FALSE(Check(found, 0).ok());
}

}  // namespace
}  // namespace myriad
