#include "worker/network_save.h"

#include <cstdint>
#include <set>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "client/file_util.h"
#include "worker/backbone/tensor_file.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

constexpr char kBackboneFile[] = "backbone.safetensors";
constexpr char kOptimizerFile[] = "optimizer.safetensors";
constexpr char kStatisticsFile[] = "statistics.safetensors";

std::vector<NamedTensor> Momenta(const NetworkParts& parts) {
  std::vector<NamedTensor> momenta;
  const std::vector<NamedTensor> parameters = parts.backbone->Parameters();
  for (size_t i = 0; i < parts.optimizer->momenta().size(); ++i) momenta.push_back({parameters[i].name, parts.optimizer->momenta()[i]});
  return momenta;
}

// What differs between ranks: buffers of real numbers.
std::vector<NamedTensor> Statistics(const Backbone& backbone) {
  std::set<std::string> trained;
  for (const NamedTensor& parameter : backbone.Parameters()) trained.insert(parameter.name);
  std::vector<NamedTensor> statistics;
  for (NamedTensor& entry : backbone.State()) {
    if (trained.count(entry.name) == 0 && entry.tensor.scalar_type() == at::kFloat) statistics.push_back(std::move(entry));
  }
  return statistics;
}

// rank_count x shape of each, for all ranks' statistics.
std::vector<NamedTensor> Stacks(const std::vector<NamedTensor>& statistics, int rank_count) {
  std::vector<NamedTensor> stacks;
  for (const NamedTensor& entry : statistics) {
    std::vector<int64_t> shape = entry.tensor.sizes().vec();
    shape.insert(shape.begin(), rank_count);
    stacks.push_back({entry.name, at::empty(shape, entry.tensor.options().requires_grad(false))});
  }
  return stacks;
}

std::vector<at::Tensor> Tensors(const std::vector<NamedTensor>& named) {
  std::vector<at::Tensor> tensors;
  for (const NamedTensor& entry : named) tensors.push_back(entry.tensor.detach());
  return tensors;
}

absl::StatusOr<std::vector<NamedTensor>> GatherStatistics(const NetworkParts& parts) {
  const int rank_count = parts.collectives->rank_count();
  const std::vector<NamedTensor> statistics = Statistics(*parts.backbone);
  std::vector<NamedTensor> stacks;
  at::Tensor own;
  absl::Status status = GuardTorch("gathering statistics", [&] {
    at::NoGradGuard no_grad;
    stacks = Stacks(statistics, rank_count);
    std::vector<at::Tensor> flat;
    for (const NamedTensor& entry : statistics) flat.push_back(entry.tensor.detach().reshape({1, -1}));
    own = at::cat(flat, 1);
  });
  if (!status.ok()) return status;
  const absl::StatusOr<at::Tensor> all = parts.collectives->AllGatherRows(own, std::vector<int64_t>(rank_count, 1));
  if (!all.ok()) return all.status();
  status = GuardTorch("gathering statistics", [&] {
    at::NoGradGuard no_grad;
    int64_t first = 0;
    for (NamedTensor& stack : stacks) {
      const int64_t width = stack.tensor.numel() / rank_count;
      stack.tensor.copy_(all->narrow(1, first, width).reshape(stack.tensor.sizes()));
      first += width;
    }
  });
  if (!status.ok()) return status;
  return stacks;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SaveNetwork(const NetworkParts& parts, const std::string& folder) {
  std::vector<std::pair<const char*, std::vector<NamedTensor>>> files;
  files.emplace_back(kBackboneFile, parts.backbone->State());
  files.emplace_back(kOptimizerFile, Momenta(parts));
  if (parts.collectives->rank_count() > 1) {
    absl::StatusOr<std::vector<NamedTensor>> statistics = GatherStatistics(parts);
    if (!statistics.ok()) return statistics.status();
    files.emplace_back(kStatisticsFile, *std::move(statistics));
  }
  std::vector<std::string> written;
  for (const auto& [name, tensors] : files) {
    if (folder.empty() || tensors.empty()) continue;
    if (absl::Status status = SaveTensors(tensors, {}, JoinPath(folder, name)); !status.ok()) return status;
    written.push_back(name);
  }
  return written;
}

absl::Status LoadNetwork(const NetworkParts& parts, const std::string& folder, int rank_count) {
  const int rank = parts.collectives->rank();
  const std::vector<NamedTensor> statistics = Statistics(*parts.backbone);
  absl::Status status = parts.optimizer->MakeMomenta();
  if (!status.ok()) return status;
  std::vector<std::pair<const char*, std::vector<NamedTensor>>> files;
  files.emplace_back(kBackboneFile, parts.backbone->State());
  files.emplace_back(kOptimizerFile, Momenta(parts));
  status = GuardTorch("statistics of all ranks", [&] {
    if (rank_count > 1) files.emplace_back(kStatisticsFile, Stacks(statistics, rank_count));
  });
  if (!status.ok()) return status;
  for (const auto& [name, tensors] : files) {
    if (tensors.empty()) continue;
    if (rank == 0) status = LoadTensors(JoinPath(folder, name), tensors);
    if (status.ok()) status = parts.collectives->Broadcast(Tensors(tensors));
    if (!status.ok()) return status;
  }
  if (rank_count == 1) return absl::OkStatus();
  return GuardTorch("setting statistics", [&] {
    at::NoGradGuard no_grad;
    const std::vector<NamedTensor>& stacks = files.back().second;
    for (size_t i = 0; i < statistics.size(); ++i) {
      at::Tensor(statistics[i].tensor).copy_(stacks[i].tensor.select(0, rank < rank_count ? rank : 0));
    }
  });
}

}  // namespace myriad
