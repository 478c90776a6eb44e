#include "client/head_source.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace myriad {

absl::StatusOr<HeadSummary> ChooseHead(const std::vector<HeadSummary>& heads, const std::string& name) {
  for (const HeadSummary& head : heads) {
    if (name.empty() ? heads.size() == 1 : head.spec.name == name) return head;
  }
  const std::string known = absl::StrJoin(heads, ", ", [](std::string* text, const HeadSummary& h) { absl::StrAppend(text, h.spec.name); });
  if (name.empty()) return absl::InvalidArgumentError(absl::StrCat("choose a head with --head: ", known));
  return absl::NotFoundError(absl::StrCat("there is no head '", name, "'; there is ", known));
}

absl::Status CheckAllShards(const HeadSummary& head) {
  if (static_cast<int>(head.shards.size()) == head.shard_count) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("head ", head.spec.name, " has ", head.shard_count, " shards; --shards names ", head.shards.size(), " of them"));
}

}  // namespace myriad
