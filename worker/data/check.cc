#include "worker/data/check.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/data/dataset.h"
#include "worker/data/dataset_json.h"
#include "worker/data/file_io.h"
#include "worker/data/image_file_dataset.h"
#include "worker/data/image_file_list.h"
#include "worker/data/packed_dataset.h"
#include "worker/data/pairs.h"
#include "worker/data/parallel.h"
#include "worker/data/progress.h"
#include "worker/data/split_content.h"

namespace myriad {
namespace {

constexpr int64_t kMaxProblems = 10000;
constexpr int64_t kChunk = 4096;

// Reads every image. Returns CANCELLED or OK; faults go to `problems`.
absl::Status CheckImages(const Dataset& dataset, const CheckOptions& options, ProblemList* problems) {
  const int threads = options.threads > 0 ? options.threads : CoreCount();
  Progress progress(options.progress, "checked", "images", dataset.size());
  std::vector<std::vector<uint8_t>> buffers(threads, std::vector<uint8_t>(dataset.image_bytes()));
  for (int64_t start = 0; start < dataset.size() && !problems->full(); start += kChunk) {
    const int64_t count = std::min(kChunk, dataset.size() - start);
    std::vector<absl::Status> faults(count);
    absl::Status status = ParallelFor(count, threads, [&](int64_t i, int thread) -> absl::Status {
      if (options.stop != nullptr && options.stop->load()) return absl::CancelledError("interrupted");
      faults[i] = dataset.ReadImage(start + i, buffers[thread].data());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    for (absl::Status& fault : faults) {
      if (!fault.ok()) problems->Add(std::move(fault));
    }
    progress.Update(start + count);
  }
  return absl::OkStatus();
}

// "2000 images, 400 identities, images per identity min 5 median 5 max 5".
std::string Summary(const std::vector<int64_t>& labels, int64_t identity_count) {
  std::vector<int64_t> counts(identity_count, 0);
  for (const int64_t label : labels) {
    if (label >= 0 && label < identity_count) ++counts[label];
  }
  std::sort(counts.begin(), counts.end());
  std::string text = absl::StrCat(labels.size(), " images, ", identity_count, " identities");
  if (counts.empty()) return text;
  return absl::StrCat(text, ", images per identity min ", counts.front(), " median ", counts[counts.size() / 2], " max ", counts.back());
}

// Prints a split's problems and its summary; returns the number of problems.
int64_t Report(const std::string& split, const std::string& summary, const ProblemList& problems, std::ostream* out) {
  const int64_t count = problems.problems().size();
  if (out == nullptr) return count;
  for (const absl::Status& problem : problems.problems()) *out << "problem: " << problem.message() << "\n";
  if (problems.full()) *out << "problem: " << split << ": more than these\n";
  *out << split << ": " << summary << "\n";
  return count;
}

absl::StatusOr<int64_t> CheckSplit(const std::string& name, const DatasetJson& json, const SplitFiles& files, const CheckOptions& options) {
  ProblemList problems(kMaxProblems);
  SplitContent content = LoadSplitContent(options.path, json, files, &problems);
  std::string summary = absl::StrCat(Summary(content.labels, content.identities.size()), "; ", json.image_size, " x ", json.image_size,
                                     " x ", json.channels, " ", ImageEncodingName(json.encoding));
  if (!files.pairs.empty()) {
    const absl::StatusOr<std::vector<VerificationPair>> pairs = ReadPairs(absl::StrCat(options.path, "/", files.pairs), files.count);
    if (!pairs.ok()) {
      problems.Add(pairs.status());
    } else {
      const int64_t same = std::count_if(pairs->begin(), pairs->end(), [](const VerificationPair& pair) { return pair.same; });
      absl::StrAppend(&summary, ", ", pairs->size(), " pairs (", same, " same)");
      for (size_t i = 0; i < pairs->size() && !content.labels.empty(); ++i) {
        const VerificationPair& pair = (*pairs)[i];
        if ((content.labels[pair.first] == content.labels[pair.second]) == pair.same) continue;
        problems.Add(absl::InvalidArgumentError(absl::StrCat(
            options.path, "/", files.pairs, ": pair ", i, " (", pair.first, ", ", pair.second, ") is called ",
            pair.same ? "same" : "different", ", but the labels are ", content.labels[pair.first], " and ", content.labels[pair.second])));
      }
    }
  }
  // Where offsets or sizes are wrong, images cannot be told apart: their faults would only repeat that.
  if (content.images_readable && !content.labels.empty()) {
    const auto dataset = PackedDataset::Create(options.path, json, files, std::move(content), 0, 0);
    if (!dataset.ok()) return dataset.status();
    if (absl::Status status = CheckImages(**dataset, options, &problems); !status.ok()) return status;
  }
  return Report(name, summary, problems, options.results);
}

absl::StatusOr<int64_t> CheckFolder(const CheckOptions& options) {
  absl::StatusOr<ImageFileList> list = ListImageFolder(options.path);
  if (!list.ok()) return list.status();
  ProblemList problems(kMaxProblems);
  for (const std::string& folder : list->empty_folders) {
    problems.Add(absl::InvalidArgumentError(absl::StrCat(folder, ": the folder has no image")));
  }
  std::string summary = Summary(list->labels, list->identities.size());
  if (!list->other_files.empty()) {
    absl::StrAppend(&summary, "; ", list->other_files.size(), " files that are no images passed over, the first ", list->other_files[0]);
  }
  // One pixel: what matters is that each file can be decoded.
  const auto dataset = ImageFileDataset::Create(*std::move(list), 1, 1);
  if (!dataset.ok()) return dataset.status();
  if (absl::Status status = CheckImages(**dataset, options, &problems); !status.ok()) return status;
  return Report("train", summary, problems, options.results);
}

}  // namespace

absl::Status RunCheck(const CheckOptions& options) {
  if (!FileExists(options.path)) return absl::NotFoundError(absl::StrCat(options.path, ": the data folder does not exist"));
  int64_t problems = 0;
  if (FileExists(absl::StrCat(options.path, "/dataset.json"))) {
    const absl::StatusOr<DatasetJson> json = ReadDatasetJson(options.path);
    if (!json.ok()) return json.status();
    for (const auto& [name, files] : json->splits) {
      const absl::StatusOr<int64_t> found = CheckSplit(name, *json, files, options);
      if (!found.ok()) return found.status();
      problems += *found;
    }
  } else {
    const absl::StatusOr<int64_t> found = CheckFolder(options);
    if (!found.ok()) return found.status();
    problems = *found;
  }
  if (problems == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(options.path, ": ", problems, problems == 1 ? " problem" : " problems"));
}

}  // namespace myriad
