#ifndef MYRIAD_WORKER_JOB_CATALOGUES_H_
#define MYRIAD_WORKER_JOB_CATALOGUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/head_client.h"
#include "client/identity_catalogue.h"
#include "client/run_folder.h"
#include "myriad/config/v1/job.pb.h"
#include "worker/collectives.h"

namespace myriad {

// Which class of a head is whose, from one run to the next. Rows outlive a run, so the catalogue lies with them: a run takes up the names
// that an earlier one has left, gives new names the ids behind them, and leaves all of them.

// Where the catalogue of each head of `config` is kept: STORE/NAME.identities.tsv, beside the servers' rows; without a store ("") in the
// run folder, as head/NAME/identities.tsv.
std::vector<std::string> CataloguePaths(const config::v1::JobConfig& config, const std::string& store, const RunFolder& folder);

// The names whose class ids stand, of each head: those of the file at `paths`, or of HeadConfig.catalogue where it has more; none for a new
// head. A run that is resumed (`resume`) has taken up what HeadConfig.catalogue had, and asks for that no more. Rank 0 reads, all ranks
// call it together (`device`: the collectives'). Errors: FAILED_PRECONDITION naming both files and the first line in which they differ:
// neither begins with the other; those of IdentityCatalogue::Load and of Collectives.
absl::StatusOr<std::vector<IdentityCatalogue>> LoadCatalogues(const config::v1::JobConfig& config, const std::vector<std::string>& paths,
                                                              bool resume, at::Device device, Collectives* collectives);

// Whether a run may train the rows that the shards have of a head (`found`) with class ids behind `known_names` known ones. `config` as
// the user wrote it: class_count is 0 if the data are to tell it. Errors: FAILED_PRECONDITION with what to do: there are rows and no name;
// there are classes without a name, which nobody has said are free.
absl::Status CheckKnownNames(const config::v1::HeadConfig& config, const HeadOnShards& found, int64_t known_names, const std::string& path);

// Rank 0, once the heads are open: writes each catalogue to its path unless it is there already.
absl::Status SaveCatalogues(const std::vector<IdentityCatalogue>& catalogues, const std::vector<std::string>& paths);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_CATALOGUES_H_
