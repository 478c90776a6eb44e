#include "worker/launch_place.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr int kMaxRanks = 1 << 20;
constexpr int kMaxPort = 65535;

}  // namespace

absl::StatusOr<LaunchPlace> ReadLaunchPlace(const std::function<const char*(const char*)>& get, const RankInfo& rank) {
  LaunchPlace place;
  place.rank = rank;
  absl::Status status;
  const auto read = [&](const char* name, int least, int most, int* value) {
    const char* text = get(name);
    if (text == nullptr || !status.ok()) return;
    if (!absl::SimpleAtoi(text, value) || *value < least || *value > most) {
      status = absl::InvalidArgumentError(absl::StrCat(name, " is \"", text, "\"; it must be a number in [", least, ", ", most, "]"));
    }
  };
  read("WORLD_SIZE", 1, kMaxRanks, &place.rank.rank_count);
  read("RANK", 0, place.rank.rank_count - 1, &place.rank.rank);
  read("LOCAL_WORLD_SIZE", 1, place.rank.rank_count, &place.local_rank_count);
  // Launchers of one machine may leave LOCAL_WORLD_SIZE out.
  const bool local_count_told = get("LOCAL_WORLD_SIZE") != nullptr;
  read("LOCAL_RANK", 0, (local_count_told ? place.local_rank_count : place.rank.rank_count) - 1, &place.rank.local_rank);
  read("MASTER_PORT", 1, kMaxPort, &place.rank.master_port);
  if (!status.ok()) return status;
  if (const char* address = get("MASTER_ADDR")) place.rank.master_address = address;
  const char* agent_store = get("TORCHELASTIC_USE_AGENT_STORE");
  place.rank.launcher_has_store = agent_store != nullptr && std::string(agent_store) == "True";
  if (const char* restart = get("TORCHELASTIC_RESTART_COUNT")) place.rank.run_id = restart;
  return place;
}

}  // namespace myriad
