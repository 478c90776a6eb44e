#ifndef MYRIAD_WORKER_JOB_DATA_H_
#define MYRIAD_WORKER_JOB_DATA_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/identity_catalogue.h"
#include "client/job_config.h"
#include "myriad/config/v1/job.pb.h"
#include "worker/data/batch_reader.h"
#include "worker/data/dataset.h"
#include "worker/verification.h"

namespace myriad {

// The data sets of a job, and the class ids that its heads give to their identities.
struct JobData {
  std::vector<std::unique_ptr<Dataset>> datasets;  // In the order of the configuration.
  std::vector<int> head_of_dataset;                // Index into the configuration's heads.
  std::vector<std::vector<int64_t>> class_ids;     // Of each data set: label -> class id of its head.
  std::vector<IdentityCatalogue> catalogues;       // Of each head, the new names too. Equal names of several data sets are one identity.
  DataFacts facts;
};

// Opens the data sets of `config` (FillDefaults done). `catalogues`, of each head, are the names whose class ids stand (LoadCatalogues);
// names that are new get ids behind them, in the order of the data sets. Images come in the backbone's size and channels, where those are
// set, else those of the first data set. Errors: those of OpenDataset; INVALID_ARGUMENT: a data set names a head that is not there, or a
// name that a catalogue cannot hold.
absl::StatusOr<JobData> OpenJobData(const config::v1::JobConfig& config, std::vector<IdentityCatalogue> catalogues);

// A reader over all of them for one rank, from `first_step` on. Requires: `config` resolved; `data` outlives the reader.
absl::StatusOr<std::unique_ptr<BatchReader>> MakeBatchReader(const config::v1::JobConfig& config, const JobData& data, int rank,
                                                             int rank_count, int64_t first_step);

// The verification sets of `config` (resolved), in order.
absl::StatusOr<std::vector<std::unique_ptr<VerificationSet>>> OpenVerifications(const config::v1::JobConfig& config);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_DATA_H_
