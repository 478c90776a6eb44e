#include "head/softmax_passes.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/float_row_view.h"

namespace myriad {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

struct Shape {
  int64_t rows, batch, dim;
};

// The fused passes do what their plain counterparts do, at shapes around vectors, strips and grains.
class SoftmaxPassesTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override { at::manual_seed(3); }

  static void ExpectNear(const at::Tensor& a, const at::Tensor& b, double relative) {
    ASSERT_EQ(a.sizes(), b.sizes());
    if (a.numel() == 0) return;
    const double largest = b.to(at::kDouble).abs().max().item<double>();
    ASSERT_LE((a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(), relative * largest);
  }

  const std::unique_ptr<SoftmaxPasses> fused_ = MakeFusedPasses();
  const std::unique_ptr<SoftmaxPasses> plain_ = MakePlainPasses();
};

TEST_P(SoftmaxPassesTest, Normalize) {
  const Shape& shape = GetParam();
  at::Tensor rows = at::randn({shape.rows, shape.dim});
  rows[shape.rows / 2].zero_();
  rows[shape.rows - 1].fill_(1e-14);
  for (bool spoiled : {false, true}) {
    if (spoiled) {
      rows[shape.rows / 3][0] = std::numeric_limits<float>::quiet_NaN();
      rows[shape.rows / 2][shape.dim - 1] = kNegativeInfinity;
    }
    at::Tensor unit[2], norm[2];
    SoftmaxPasses::Checked checked[2];
    for (int k : {0, 1}) {
      unit[k] = at::full({shape.rows, shape.dim}, 9.0);
      norm[k] = at::full({shape.rows}, 9.0);
      checked[k] = (k == 0 ? fused_ : plain_)->Normalize(rows, unit[k], norm[k]);
    }
    EXPECT_EQ(checked[0].degenerate_count, checked[1].degenerate_count);
    EXPECT_EQ(checked[0].first_not_finite, checked[1].first_not_finite);
    EXPECT_EQ(checked[0].first_not_finite, spoiled ? shape.rows / 3 : -1);
    ExpectNear(unit[0], unit[1], 1e-6);
    ExpectNear(norm[0], norm[1], 1e-6);

    std::vector<const float*> pointers;
    for (int64_t j = 0; j < shape.rows; ++j) pointers.push_back(rows.const_data_ptr<float>() + j * shape.dim);
    at::Tensor gathered = at::empty_like(rows), gathered_norm = at::empty({shape.rows});
    at::Tensor scratch = at::empty({0});
    EXPECT_EQ(GatherAndNormalize(FloatRowView(static_cast<int>(shape.dim), pointers), scratch, gathered, gathered_norm).first_not_finite,
              checked[0].first_not_finite);
    EXPECT_TRUE(gathered.equal(unit[0]));
    EXPECT_TRUE(gathered_norm.equal(norm[0]));
  }
}

TEST_P(SoftmaxPassesTest, Cosines) {
  const Shape& shape = GetParam();
  const at::Tensor a = at::randn({shape.rows, shape.dim});
  at::Tensor b = at::randn({shape.batch, shape.dim});
  b[0].zero_();
  const std::vector<int64_t> a_index = {0, shape.rows - 1, shape.rows / 2}, b_index = {shape.batch - 1, shape.batch / 2, 0};
  const std::vector<double> fused = fused_->Cosines(a, a_index, b, b_index), plain = plain_->Cosines(a, a_index, b, b_index);
  ASSERT_EQ(fused.size(), 3u);
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(fused[k], plain[k], 1e-12);
  EXPECT_EQ(fused[2], 0.0);
  EXPECT_TRUE(fused_->Cosines(a, {}, b, {}).empty());
  EXPECT_TRUE(plain_->Cosines(a, {}, b, {}).empty());
}

TEST_P(SoftmaxPassesTest, MaskRaiseMaxAndExponentiate) {
  const Shape& shape = GetParam();
  const at::Tensor cosines = at::rand({shape.rows, shape.batch}) * 2 - 1;
  const std::vector<int64_t> rows = {0, shape.rows - 1}, samples = {shape.batch - 1, 0};
  at::Tensor before = at::rand({shape.batch}) * 128 - 64;
  before[0] = kNegativeInfinity;
  at::Tensor tile[2], maximum[2], factor[2], sum[2];
  for (int k : {0, 1}) {
    const SoftmaxPasses& passes = k == 0 ? *fused_ : *plain_;
    tile[k] = cosines.clone();
    maximum[k] = before.clone();
    factor[k] = at::empty({shape.batch});
    sum[k] = at::ones({shape.batch}, at::kDouble);
    passes.Mask(tile[k], rows, samples);
    passes.RaiseMax(tile[k], 64.0, maximum[k], factor[k]);
    passes.Exponentiate(tile[k], 64.0, maximum[k], sum[k]);
    EXPECT_EQ(tile[k][0][shape.batch - 1].item<float>(), 0.0f);
  }
  EXPECT_TRUE(maximum[0].equal(maximum[1]));
  EXPECT_EQ(factor[0][0].item<float>(), 1.0f);
  ExpectNear(factor[0], factor[1], 1e-6);
  ExpectNear(tile[0], tile[1], 3e-5);
  ExpectNear(sum[0], sum[1], 3e-5);
}

TEST_P(SoftmaxPassesTest, CoefficientsRowsAndProjection) {
  const Shape& shape = GetParam();
  at::Tensor maximum = at::rand({shape.batch}) * 128 - 64;
  maximum[shape.batch - 1] = kNegativeInfinity;
  at::Tensor log_z = maximum.to(at::kDouble) + at::rand({shape.batch}, at::kDouble) * 90;  // Some coefficients vanish.
  const at::Tensor embeddings = at::randn({shape.batch, shape.dim}), start = at::randn({shape.rows, shape.dim});
  const at::Tensor norm = at::rand({shape.rows});
  const std::vector<int64_t> samples = {0, shape.batch / 2, shape.batch - 1}, rows = {shape.rows - 1, 0, 0};
  at::Tensor coefficients[2], scaled[2], out[2];
  for (int k : {0, 1}) {
    const SoftmaxPasses& passes = k == 0 ? *fused_ : *plain_;
    coefficients[k] = at::empty({shape.batch});
    passes.Coefficients(maximum, log_z, 0.125, coefficients[k]);
    scaled[k] = at::empty({shape.batch, shape.dim});
    passes.ScaleRows(coefficients[k], embeddings, scaled[k]);
    out[k] = start.clone();
    passes.AddRows({0.5, -2.0, 1e-3}, embeddings, samples, out[k], rows);
    passes.Project(start / start.norm(2, {1}, true), norm, out[k]);
  }
  EXPECT_EQ(coefficients[0][shape.batch - 1].item<float>(), 0.0f);
  ExpectNear(coefficients[0], coefficients[1], 1e-6);
  ExpectNear(scaled[0], scaled[1], 1e-6);
  ExpectNear(out[0], out[1], 1e-5);
  plain_->AddRows({}, embeddings, {}, out[1], {});
  fused_->AddRows({}, embeddings, {}, out[0], {});
}

INSTANTIATE_TEST_SUITE_P(Shapes, SoftmaxPassesTest,
                         testing::Values(Shape{3, 1, 1}, Shape{5, 3, 7}, Shape{64, 16, 16}, Shape{65, 33, 17}, Shape{300, 257, 512}),
                         [](const testing::TestParamInfo<Shape>& info) {
                           return absl::StrCat(info.param.rows, "x", info.param.batch, "x", info.param.dim);
                         });

}  // namespace
}  // namespace myriad
