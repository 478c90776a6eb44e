#include "worker/data/pack.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"
#include "head/keyed_permutation.h"
#include "worker/data/dataset_writer.h"
#include "worker/data/file_io.h"
#include "worker/data/image_codec.h"
#include "worker/data/image_file_dataset.h"
#include "worker/data/image_file_list.h"
#include "worker/data/pairs.h"
#include "worker/data/parallel.h"
#include "worker/data/progress.h"
#include "worker/data/random.h"

namespace myriad {
namespace {

// Images decoded side by side before they are written in order; bounds the memory.
constexpr int64_t kChunk = 512;

absl::Status ValidateOptions(const PackOptions& options) {
  if (options.image_size < 0 || options.image_size > DatasetJson::kMaxImageSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("size is ", options.image_size, "; a number in [1, ", DatasetJson::kMaxImageSize, "] is needed"));
  }
  if (options.channels != 0 && options.channels != 1 && options.channels != 3) {
    return absl::InvalidArgumentError(absl::StrCat("channels is ", options.channels, "; 1 or 3 is needed"));
  }
  if (options.jpeg_quality < 1 || options.jpeg_quality > 100) {
    return absl::InvalidArgumentError(absl::StrCat("quality is ", options.jpeg_quality, "; a number in [1, 100] is needed"));
  }
  if (options.holdout_classes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("holdout-classes is ", options.holdout_classes, "; a number >= 0 is needed"));
  }
  if (options.pairs < 0 || options.pairs % (2 * kVerificationFolds) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("pairs is ", options.pairs, "; a multiple of ", 2 * kVerificationFolds, " is needed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ImageFileList> ListSource(const std::string& source) {
  if (!FileExists(source)) return absl::NotFoundError(absl::StrCat(source, ": does not exist"));
  return IsDirectory(source) ? ListImageFolder(source) : ReadImageList(source);
}

// Where the images of an identity go: split and label there.
struct Place {
  bool eval = false;
  int64_t label = 0;
};

constexpr char kTrain[] = "train";
constexpr char kEval[] = "eval";

absl::StatusOr<std::vector<Place>> SplitIdentities(const std::vector<std::string>& identities, const PackOptions& options,
                                                   DatasetWriter* writer) {
  const int64_t count = identities.size();
  if (options.holdout_classes >= count) {
    return absl::InvalidArgumentError(
        absl::StrCat("holdout-classes is ", options.holdout_classes, ", but there are ", count, " identities"));
  }
  std::vector<Place> places(count);
  const KeyedPermutation order(count, MixKey(options.seed, 0x686F6C646F7574));
  for (int64_t i = 0; i < options.holdout_classes; ++i) places[order.At(i)].eval = true;
  std::vector<std::string> names[2];
  for (int64_t i = 0; i < count; ++i) {
    std::vector<std::string>& list = names[places[i].eval];
    places[i].label = list.size();
    list.push_back(identities[i]);
  }
  if (absl::Status status = writer->AddSplit(kTrain, names[0]); !status.ok()) return status;
  if (options.holdout_classes > 0) {
    if (absl::Status status = writer->AddSplit(kEval, names[1]); !status.ok()) return status;
  }
  return places;
}

// The bytes of one image as the data set stores them.
absl::StatusOr<std::string> StoredImage(const std::string& path, const PackOptions& options, int size, int channels) {
  absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<Image> image = DecodeImage(*bytes, path);
  if (!image.ok()) return image.status();
  const ImageFormat format = SniffImageFormat(*bytes);
  const bool same_encoding = (options.encoding == ImageEncoding::kJpeg && format == ImageFormat::kJpeg) ||
                             (options.encoding == ImageEncoding::kPng && format == ImageFormat::kPng);
  if (same_encoding && image->width == size && image->height == size && image->channels == channels) return bytes;
  const Image fitted = FitImage(*std::move(image), size, channels);
  switch (options.encoding) {
    case ImageEncoding::kJpeg: return EncodeJpeg(fitted, options.jpeg_quality);
    case ImageEncoding::kPng: return EncodePng(fitted);
    case ImageEncoding::kRaw: break;
  }
  return std::string(fitted.pixels.begin(), fitted.pixels.end());
}

// Decodes and writes all images, in order. Returns how many were left out.
absl::StatusOr<int64_t> WriteImages(const ImageFileDataset& source, const std::vector<Place>& places, const PackOptions& options,
                                    DatasetWriter* writer) {
  Progress progress(options.progress, "packed", "images", source.size());
  const int threads = options.threads > 0 ? options.threads : CoreCount();
  int64_t skipped = 0;
  for (int64_t start = 0; start < source.size(); start += kChunk) {
    const int64_t count = std::min(kChunk, source.size() - start);
    std::vector<absl::StatusOr<std::string>> chunk(count, absl::CancelledError("interrupted; nothing was written"));
    absl::Status status = ParallelFor(count, threads, [&](int64_t i, int) {
      if (options.stop != nullptr && options.stop->load()) return chunk[i].status();
      chunk[i] = StoredImage(source.ImageName(start + i), options, source.image_size(), source.channels());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    for (int64_t i = 0; i < count; ++i) {
      if (!chunk[i].ok()) {
        if (!options.skip_unreadable) return chunk[i].status();
        ++skipped;
        if (options.results != nullptr) *options.results << "left out: " << chunk[i].status().message() << "\n";
        continue;
      }
      const Place& place = places[source.label(start + i)];
      status = writer->AddImage(place.eval ? kEval : kTrain, place.label, *chunk[i]);
      if (!status.ok()) return status;
    }
    progress.Update(start + count);
  }
  return skipped;
}

// Labels of the split eval, in the order in which its images are written, if all can be read.
std::vector<int64_t> HeldOutLabels(const ImageFileDataset& source, const std::vector<Place>& places) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < source.size(); ++i) {
    const Place& place = places[source.label(i)];
    if (place.eval) labels.push_back(place.label);
  }
  return labels;
}

}  // namespace

absl::Status RunPack(const PackOptions& options) {
  if (absl::Status status = ValidateOptions(options); !status.ok()) return status;
  absl::StatusOr<ImageFileList> list = ListSource(options.source);
  if (!list.ok()) return list.status();
  absl::StatusOr<std::unique_ptr<ImageFileDataset>> source =
      ImageFileDataset::Create(*std::move(list), options.image_size, options.channels);
  if (!source.ok()) return source.status();
  const int size = (*source)->image_size();
  const int channels = (*source)->channels();
  absl::StatusOr<std::unique_ptr<DatasetWriter>> writer = DatasetWriter::Create(options.out, size, channels, options.encoding);
  if (!writer.ok()) return writer.status();
  const absl::StatusOr<std::vector<Place>> places = SplitIdentities((*source)->identities(), options, writer->get());
  if (!places.ok()) return places.status();
  const bool with_pairs = options.holdout_classes > 0 && options.pairs > 0;
  if (with_pairs) {
    // Too few images for the pairs is told before hours of work, not after.
    const absl::Status drawn = DrawPairs(HeldOutLabels(**source, *places), options.pairs, options.seed).status();
    if (!drawn.ok()) return drawn;
  }
  const absl::StatusOr<int64_t> skipped = WriteImages(**source, *places, options, writer->get());
  if (!skipped.ok()) return skipped.status();
  if (with_pairs) {
    const absl::StatusOr<std::vector<VerificationPair>> pairs = DrawPairs((*writer)->labels(kEval), options.pairs, options.seed);
    if (!pairs.ok()) return pairs.status();
    if (absl::Status status = (*writer)->SetPairs(kEval, *pairs); !status.ok()) return status;
  }
  if (absl::Status status = (*writer)->Finish(); !status.ok()) return status;
  if (options.results == nullptr) return absl::OkStatus();
  std::ostream& out = *options.results;
  const int64_t identities = (*source)->identities().size();
  out << options.out << ": train " << (*writer)->image_count(kTrain) << " images of " << identities - options.holdout_classes
      << " identities";
  if (options.holdout_classes > 0) {
    out << ", eval " << (*writer)->image_count(kEval) << " images of " << options.holdout_classes << " identities, " << options.pairs
        << " pairs";
  }
  out << "; " << size << " x " << size << " x " << channels << " " << ImageEncodingName(options.encoding);
  if (*skipped > 0) out << "; " << *skipped << " images left out";
  if (!(*source)->files().other_files.empty())
    out << "; " << (*source)->files().other_files.size() << " files that are no images passed over";
  out << "\n";
  return absl::OkStatus();
}

}  // namespace myriad
