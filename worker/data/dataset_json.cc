#include "worker/data/dataset_json.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "client/file_util.h"

namespace myriad {
namespace {

using Json = nlohmann::json;

// Reads the fields of one JSON object; every error names the file and the field.
class ObjectReader {
 public:
  ObjectReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  absl::StatusOr<int64_t> Integer(const char* field, int64_t low, int64_t high) const {
    const auto it = object_.find(field);
    if (it == object_.end()) return Missing(field);
    const bool fits = it->is_number_integer() && !(it->is_number_unsigned() && it->get<uint64_t>() > uint64_t{INT64_MAX});
    if (!fits || it->get<int64_t>() < low || it->get<int64_t>() > high) {
      return absl::InvalidArgumentError(
          absl::StrCat(where_, field, " is ", Shown(*it), "; an integer in [", low, ", ", high, "] is needed"));
    }
    return it->get<int64_t>();
  }

  absl::StatusOr<std::string> Text(const char* field) const {
    const auto it = object_.find(field);
    if (it == object_.end()) return Missing(field);
    if (!it->is_string()) return absl::InvalidArgumentError(absl::StrCat(where_, field, " is ", Shown(*it), "; a string is needed"));
    return it->get<std::string>();
  }

  // A name in the data set's own folder: a data set that was fetched from elsewhere opens nothing outside of it.
  absl::StatusOr<std::string> FileName(const char* field) const {
    absl::StatusOr<std::string> name = Text(field);
    if (name.ok() && (name->empty() || *name == "." || *name == ".." || name->find('/') != std::string::npos)) {
      return absl::InvalidArgumentError(absl::StrCat(where_, field, " is \"", *name, "\"; a file name without a folder is needed"));
    }
    return name;
  }

  bool Has(const char* field) const { return object_.contains(field); }

 private:
  absl::Status Missing(const char* field) const { return absl::InvalidArgumentError(absl::StrCat(where_, field, " is missing")); }
  static std::string Shown(const Json& value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80); }

  const Json& object_;
  const std::string where_;
};

absl::Status ParseSplit(const ObjectReader& reader, ImageEncoding encoding, SplitFiles* split) {
  const absl::StatusOr<int64_t> count = reader.Integer("count", 1, int64_t{1} << 40);
  if (!count.ok()) return count.status();
  split->count = *count;
  struct Field {
    const char* name;
    std::string* value;
    bool needed;
  };
  const Field fields[] = {{"images", &split->images, true},
                          {"offsets", &split->offsets, encoding != ImageEncoding::kRaw},
                          {"labels", &split->labels, true},
                          {"identities", &split->identities, true},
                          {"pairs", &split->pairs, false}};
  for (const Field& field : fields) {
    if (!field.needed && !reader.Has(field.name)) continue;
    absl::StatusOr<std::string> name = reader.FileName(field.name);
    if (!name.ok()) return name.status();
    *field.value = *std::move(name);
  }
  return absl::OkStatus();
}

absl::StatusOr<DatasetJson> Parse(const Json& root, const std::string& file) {
  if (!root.is_object()) return absl::InvalidArgumentError(absl::StrCat(file, ": not a JSON object"));
  const ObjectReader reader(root, absl::StrCat(file, ": "));
  const absl::StatusOr<int64_t> version = reader.Integer("version", 1, INT32_MAX);
  if (!version.ok()) return version.status();
  if (*version != DatasetJson::kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": version is ", *version, "; this program reads version ", DatasetJson::kVersion));
  }
  DatasetJson dataset;
  const absl::StatusOr<int64_t> image_size = reader.Integer("image_size", 1, DatasetJson::kMaxImageSize);
  if (!image_size.ok()) return image_size.status();
  dataset.image_size = static_cast<int>(*image_size);
  const absl::StatusOr<int64_t> channels = reader.Integer("channels", 1, 3);
  if (!channels.ok()) return channels.status();
  if (*channels == 2) return absl::InvalidArgumentError(absl::StrCat(file, ": channels is 2; 1 or 3 is needed"));
  dataset.channels = static_cast<int>(*channels);
  const absl::StatusOr<std::string> encoding_name = reader.Text("encoding");
  if (!encoding_name.ok()) return encoding_name.status();
  const absl::StatusOr<ImageEncoding> encoding = ParseImageEncoding(*encoding_name);
  if (!encoding.ok()) return absl::InvalidArgumentError(absl::StrCat(file, ": ", encoding.status().message()));
  dataset.encoding = *encoding;
  const auto splits = root.find("splits");
  if (splits == root.end() || !splits->is_object() || splits->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": splits is missing or no object with at least one split"));
  }
  for (const auto& [name, value] : splits->items()) {
    const std::string where = absl::StrCat(file, ": splits.", name);
    if (!value.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, " is no object"));
    if (absl::Status status = ParseSplit(ObjectReader(value, absl::StrCat(where, ".")), dataset.encoding, &dataset.splits[name]);
        !status.ok()) {
      return status;
    }
  }
  return dataset;
}

}  // namespace

absl::string_view ImageEncodingName(ImageEncoding encoding) {
  switch (encoding) {
    case ImageEncoding::kRaw: return "raw";
    case ImageEncoding::kJpeg: return "jpeg";
    case ImageEncoding::kPng: return "png";
  }
  return "";
}

absl::StatusOr<ImageEncoding> ParseImageEncoding(absl::string_view name) {
  for (const ImageEncoding encoding : {ImageEncoding::kRaw, ImageEncoding::kJpeg, ImageEncoding::kPng}) {
    if (name == ImageEncodingName(encoding)) return encoding;
  }
  return absl::InvalidArgumentError(absl::StrCat("encoding is \"", name, "\"; raw, jpeg or png is needed"));
}

absl::StatusOr<DatasetJson> ReadDatasetJson(const std::string& dir) {
  const std::string file = absl::StrCat(dir, "/dataset.json");
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return text.status();
  const Json root = Json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(file, ": not valid JSON"));
  return Parse(root, file);
}

std::string FormatDatasetJson(const DatasetJson& dataset) {
  nlohmann::ordered_json root;
  root["version"] = DatasetJson::kVersion;
  root["image_size"] = dataset.image_size;
  root["channels"] = dataset.channels;
  root["encoding"] = std::string(ImageEncodingName(dataset.encoding));
  for (const auto& [name, split] : dataset.splits) {
    nlohmann::ordered_json& out = root["splits"][name];
    out["count"] = split.count;
    out["images"] = split.images;
    if (!split.offsets.empty()) out["offsets"] = split.offsets;
    out["labels"] = split.labels;
    out["identities"] = split.identities;
    if (!split.pairs.empty()) out["pairs"] = split.pairs;
  }
  return root.dump(2) + "\n";
}

}  // namespace myriad
