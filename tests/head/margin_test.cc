#include "head/margin.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

using Kind = MarginOptions::Kind;

const double kPi = std::acos(-1.0);

double NumericalSlope(const MarginOptions& margin, double cosine) {
  const double h = 1e-7;
  return (ApplyMargin(margin, cosine + h).logit - ApplyMargin(margin, cosine - h).logit) / (2 * h);
}

TEST(MarginTest, CosFaceSubtractsTheMargin) {
  const MarginOptions margin{Kind::kCosFace, 0.35, 32.0};
  for (double c : {-1.0, -0.3, 0.0, 0.9, 1.0}) {
    EXPECT_DOUBLE_EQ(ApplyMargin(margin, c).logit, 32.0 * (c - 0.35));
    EXPECT_DOUBLE_EQ(ApplyMargin(margin, c).derivative, 32.0);
    EXPECT_NEAR(NumericalSlope(margin, c), 32.0, 1e-5);
  }
}

TEST(MarginTest, ArcFaceAddsTheMarginToTheAngle) {
  for (double m : {0.1, 0.5, 1.2}) {
    const MarginOptions margin{Kind::kArcFace, m, 64.0};
    for (double theta = 0.01; theta < kPi - m - 0.01; theta += 0.05) {
      SCOPED_TRACE(absl::StrCat("m ", m, ", theta ", theta));
      const TargetLogit target = ApplyMargin(margin, std::cos(theta));
      EXPECT_NEAR(target.logit, 64.0 * std::cos(theta + m), 1e-9);
      EXPECT_NEAR(target.derivative, 64.0 * std::sin(theta + m) / std::sin(theta), 1e-6);
    }
  }
}

TEST(MarginTest, ArcFaceDerivativeIsTheLogitsSlope) {
  for (double m : {0.0, 0.1, 0.5, 1.2, kPi / 2}) {
    const MarginOptions margin{Kind::kArcFace, m, 64.0};
    for (double c = -0.995; c < 0.9995; c += 0.0137) {
      if (std::abs(c + std::cos(m)) < 1e-6) continue;  // At the bend itself it has two slopes.
      SCOPED_TRACE(absl::StrCat("m ", m, ", c ", c));
      const double slope = NumericalSlope(margin, c);
      EXPECT_NEAR(ApplyMargin(margin, c).derivative, slope, 1e-5 * std::abs(slope) + 1e-4);
    }
  }
}

TEST(MarginTest, ArcFaceSineHasAFloorWhereItsSlopeWouldExplode) {
  const MarginOptions margin{Kind::kArcFace, 0.5, 64.0};
  const double at_floor = std::sqrt(1.0 - 1e-6);
  // Inside of the floor sin(theta) is the constant 1e-3, so the slope is s cos m, at c = 1 and by rounding past it too.
  for (double c : {at_floor + 1e-9, 1.0 - 1e-8, 1.0, 1.0 + 1e-7}) {
    SCOPED_TRACE(c);
    EXPECT_NEAR(ApplyMargin(margin, c).logit, 64.0 * (c * std::cos(0.5) - 1e-3 * std::sin(0.5)), 1e-9);
    EXPECT_DOUBLE_EQ(ApplyMargin(margin, c).derivative, 64.0 * std::cos(0.5));
  }
  EXPECT_NEAR(NumericalSlope(margin, 1.0 - 2e-7), 64.0 * std::cos(0.5), 1e-4);
  // Just outside the logit goes on without a jump.
  EXPECT_NEAR(ApplyMargin(margin, at_floor - 1e-12).logit, ApplyMargin(margin, at_floor + 1e-12).logit, 1e-6);
  EXPECT_GT(ApplyMargin(margin, at_floor - 1e-9).derivative, 1000.0);
}

TEST(MarginTest, ArcFaceIsLinearPastPi) {
  const double m = 0.5;
  const MarginOptions margin{Kind::kArcFace, m, 64.0};
  for (double theta : {kPi - m + 1e-6, kPi - m + 0.1, kPi - 0.01, kPi}) {
    SCOPED_TRACE(theta);
    const double c = std::cos(theta);
    EXPECT_NEAR(ApplyMargin(margin, c).logit, 64.0 * (c - m * std::sin(m)), 1e-9);
    EXPECT_DOUBLE_EQ(ApplyMargin(margin, c).derivative, 64.0);
    EXPECT_NEAR(NumericalSlope(margin, c - 1e-6), 64.0, 1e-4);
  }
  EXPECT_DOUBLE_EQ(ApplyMargin(margin, -1.0 - 1e-7).derivative, 64.0);
  // The logit falls all the way as the angle grows: the linear part starts below the end of the curve.
  EXPECT_LT(ApplyMargin(margin, std::cos(kPi - m + 1e-6)).logit, ApplyMargin(margin, std::cos(kPi - m - 1e-6)).logit);
}

TEST(MarginTest, StraightThroughKeepsTheCurveAndPassesTheScale) {
  const double m = 0.5;
  const MarginOptions margin{Kind::kArcFaceStraightThrough, m, 64.0};
  for (double theta : {0.0, 0.3, 2.0, kPi - m + 0.2, kPi}) {
    SCOPED_TRACE(theta);
    EXPECT_NEAR(ApplyMargin(margin, std::cos(theta)).logit, 64.0 * std::cos(theta + m), 1e-6);
    EXPECT_DOUBLE_EQ(ApplyMargin(margin, std::cos(theta)).derivative, 64.0);
  }
  EXPECT_TRUE(std::isfinite(ApplyMargin(margin, 1.0 + 1e-6).logit));
  EXPECT_TRUE(std::isfinite(ApplyMargin(margin, -1.0 - 1e-6).logit));
}

}  // namespace
}  // namespace myriad
