#include "absl/strings/str_cat.h"
#include "client/head_client.h"

namespace myriad {
namespace {

class SingleRankExchange : public RankExchange {
 public:
  int rank() const override { return 0; }
  int rank_count() const override { return 1; }
  absl::StatusOr<at::Tensor> AllGatherRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    return Own(rows, rank_sizes);
  }
  absl::StatusOr<at::Tensor> ReduceScatterRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    return Own(rows, rank_sizes);
  }

 private:
  static absl::StatusOr<at::Tensor> Own(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) {
    if (rank_sizes.size() != 1 || rank_sizes[0] != rows.size(0)) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows.size(0), " rows of one rank, where ", rank_sizes.size(), " ranks were announced"));
    }
    return rows;
  }
};

}  // namespace

std::unique_ptr<RankExchange> MakeSingleRankExchange() { return std::make_unique<SingleRankExchange>(); }

}  // namespace myriad
