#include "worker/peer_watch.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr char kPeerLostUrl[] = "myriad/peer_lost";
constexpr char kReportKey[] = "lost";

std::string BeatKey(int rank) { return absl::StrCat("beat/", rank); }

}  // namespace

absl::Status PeerLostError(const std::string& message) {
  absl::Status status = absl::UnavailableError(message);
  status.SetPayload(kPeerLostUrl, absl::Cord("1"));
  return status;
}

absl::Status PeerLostIfShardIs(absl::Status status) {
  if (absl::IsDataLoss(status)) status.SetPayload(kPeerLostUrl, absl::Cord("1"));
  return status;
}

bool IsPeerLost(const absl::Status& status) { return status.GetPayload(kPeerLostUrl).has_value(); }

absl::Status PeerWatch::Round(absl::Time now) {
  const auto store_lost = [](const absl::Status& status) {
    return PeerLostError(absl::StrCat("the store of rank 0 does not answer: ", status.message()));
  };
  absl::Status status = store_->Set(BeatKey(options_.rank), absl::StrCat(++beats_));
  if (!status.ok()) return store_lost(status);

  const absl::StatusOr<std::string> report = store_->Get(kReportKey);
  if (report.ok()) return PeerLostError(*report);
  if (!absl::IsNotFound(report.status())) return store_lost(report.status());

  const int next = (options_.rank + 1) % options_.rank_count;
  if (next == options_.rank) return absl::OkStatus();
  const absl::StatusOr<std::string> beat = store_->Get(BeatKey(next));
  if (!beat.ok() && !absl::IsNotFound(beat.status())) return store_lost(beat.status());
  const std::string seen = beat.ok() ? *beat : "";
  if (last_change_ == absl::InfinitePast() || seen != last_beat_) {
    last_beat_ = seen;
    last_change_ = now;
    return absl::OkStatus();
  }
  if (now - last_change_ < options_.patience) return absl::OkStatus();
  status = PeerLostError(absl::StrCat("rank ", next, " was lost: no sign of life for ", absl::FormatDuration(options_.patience)));
  // The others learn the same from the report; that it fails changes nothing here.
  Report(options_.rank, status, store_).IgnoreError();
  return status;
}

absl::Status PeerWatch::Report(int rank, const absl::Status& status, KeyValueStore* store) {
  if (store->Get(kReportKey).ok()) return absl::OkStatus();
  return store->Set(kReportKey,
                    IsPeerLost(status) ? std::string(status.message()) : absl::StrCat("rank ", rank, " ended: ", status.message()));
}

}  // namespace myriad
