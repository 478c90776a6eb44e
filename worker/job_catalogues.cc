#include "worker/job_catalogues.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/file_util.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

// The longer one. Errors: neither begins with the other.
absl::StatusOr<IdentityCatalogue> Longer(IdentityCatalogue kept, const std::string& kept_path, IdentityCatalogue given,
                                         const std::string& given_path) {
  const int64_t common = std::min(kept.size(), given.size());
  for (int64_t id = 0; id < common; ++id) {
    if (kept.NameOf(id) == given.NameOf(id)) continue;
    return absl::FailedPreconditionError(absl::StrCat("class ", id, " is '", kept.NameOf(id), "' in ", kept_path, " and '",
                                                      given.NameOf(id), "' in ", given_path,
                                                      ": one of the catalogues must begin with all names of the other"));
  }
  return given.size() > kept.size() ? std::move(given) : std::move(kept);
}

absl::StatusOr<IdentityCatalogue> LoadCatalogue(const std::string& path, const std::string& given_path) {
  absl::StatusOr<IdentityCatalogue> kept = IdentityCatalogue::Load(path);
  if (absl::IsNotFound(kept.status())) kept = IdentityCatalogue();
  if (!kept.ok() || given_path.empty()) return kept;
  absl::StatusOr<IdentityCatalogue> given = IdentityCatalogue::Load(given_path);
  if (!given.ok()) return given;
  return Longer(*std::move(kept), path, *std::move(given), given_path);
}

// Rank 0's text, of any length.
absl::StatusOr<std::string> ShareText(const std::string& key, absl::string_view text, at::Device device, Collectives* collectives) {
  const absl::StatusOr<std::string> shared = collectives->ShareFromRankZero(key, absl::StrCat(text.size()));
  if (!shared.ok()) return shared.status();
  int64_t size = 0;
  if (!absl::SimpleAtoi(*shared, &size)) return absl::InternalError(absl::StrCat("rank 0 shared size \"", *shared, "\""));
  std::string all(size, '\0');
  if (size == 0) return all;
  at::Tensor bytes;
  absl::Status status = GuardTorch("sharing a catalogue", [&] {
    bytes = at::empty({size}, at::kByte);
    if (collectives->rank() == 0) std::memcpy(bytes.data_ptr(), text.data(), size);
    bytes = bytes.to(device);
  });
  if (status.ok()) status = collectives->Broadcast({bytes});
  if (!status.ok()) return status;
  status = GuardTorch("sharing a catalogue", [&] { std::memcpy(&all[0], bytes.cpu().const_data_ptr(), size); });
  if (!status.ok()) return status;
  return all;
}

}  // namespace

std::vector<std::string> CataloguePaths(const config::v1::JobConfig& config, const std::string& store, const RunFolder& folder) {
  std::vector<std::string> paths;
  for (const config::v1::HeadConfig& head : config.heads()) {
    const std::string& name = head.spec().name();
    paths.push_back(store.empty() ? folder.identities_path(name) : JoinPath(store, absl::StrCat(name, ".identities.tsv")));
  }
  return paths;
}

absl::StatusOr<std::vector<IdentityCatalogue>> LoadCatalogues(const config::v1::JobConfig& config, const std::vector<std::string>& paths,
                                                              bool resume, at::Device device, Collectives* collectives) {
  std::vector<IdentityCatalogue> catalogues;
  for (int h = 0; h < config.heads_size(); ++h) {
    absl::StatusOr<IdentityCatalogue> catalogue = IdentityCatalogue();
    if (collectives->rank() == 0) catalogue = LoadCatalogue(paths[h], resume ? "" : config.heads(h).catalogue());
    if (!catalogue.ok()) return catalogue.status();
    if (collectives->rank_count() > 1) {
      const absl::StatusOr<std::string> text = ShareText(absl::StrCat("catalogue/", h), catalogue->text(), device, collectives);
      if (!text.ok()) return text.status();
      if (collectives->rank() != 0) catalogue = IdentityCatalogue::Parse(*text, absl::StrCat("rank 0's ", paths[h]));
      if (!catalogue.ok()) return catalogue.status();
    }
    catalogues.push_back(*std::move(catalogue));
  }
  return catalogues;
}

absl::Status CheckKnownNames(const config::v1::HeadConfig& config, const HeadOnShards& found, int64_t known_names,
                             const std::string& path) {
  const std::string& name = config.spec().name();
  if (found.committed_steps == 0 && found.row_count == 0) return absl::OkStatus();
  const std::string rows = absl::StrCat("the shards have rows of head ", name, " already (", found.row_count, ", at step ",
                                        found.committed_steps, ", ", found.class_count, " classes)");
  if (known_names == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(rows, ", and ", path, ", which would say which class is whose, is not there: name a file that does, by ",
                     "heads[..].catalogue; a run that trained them has one as head/", name, "/identities.tsv"));
  }
  if (known_names >= found.class_count || config.spec().class_count() != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(rows, ", and only ", known_names, " names are known (", path,
                                                    "): name the catalogue that the head was grown with, by heads[..].catalogue, or ",
                                                    "say by heads[..].spec.class_count=", found.class_count,
                                                    " that the others have no names yet"));
}

absl::Status SaveCatalogues(const std::vector<IdentityCatalogue>& catalogues, const std::vector<std::string>& paths) {
  for (size_t h = 0; h < catalogues.size(); ++h) {
    const absl::StatusOr<std::string> there = ReadFile(paths[h]);
    if (there.ok() && *there == catalogues[h].text()) continue;
    absl::Status status = MakeFolders(paths[h].substr(0, paths[h].rfind('/')));
    if (status.ok()) status = catalogues[h].Save(paths[h]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace myriad
