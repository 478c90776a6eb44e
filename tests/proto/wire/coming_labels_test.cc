#include "proto/wire/coming_labels.h"

#include <gtest/gtest.h>

namespace myriad {
namespace {

TEST(ComingLabelsTest, LabelsComeBackAsTheyWent) {
  const ComingLabels labels = {{1, -5, int64_t{1} << 60}, {}, {7}};
  ComingLabelsField field;
  EncodeComingLabels(labels, &field);
  EXPECT_EQ(DecodeComingLabels(field), labels);
  EXPECT_TRUE(DecodeComingLabels(ComingLabelsField()).empty());
}

TEST(ComingLabelsTest, StepsTooFarOffAreLeftOut) {
  ComingLabels labels;
  for (int64_t step = 0; step < 11; ++step) labels.push_back({step});
  ComingLabelsField field;
  EncodeComingLabels(labels, &field);
  EXPECT_EQ(field.size(), kMostComingSteps);
  // Somebody may send more.
  while (field.size() < 2000) *field.Add() = field.Get(0);
  labels.resize(kMostComingSteps);
  EXPECT_EQ(DecodeComingLabels(field), labels);
}

TEST(ComingLabelsTest, WhatIsNoListOfLabelsAnnouncesNone) {
  ComingLabelsField field;
  *field.Add() = "seven b";
  *field.Add() = std::string(8 * (kMostComingLabels + 1), '\0');
  *field.Add() = std::string(8 * kMostComingLabels, '\0');
  EXPECT_EQ(DecodeComingLabels(field), ComingLabels({{}, {}, std::vector<int64_t>(kMostComingLabels, 0)}));
}

}  // namespace
}  // namespace myriad
