#include "worker/data/pairs.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/file_util.h"
#include "worker/data/random.h"

namespace myriad {

absl::StatusOr<std::vector<VerificationPair>> ReadPairs(const std::string& file, int64_t image_count) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return text.status();
  std::vector<VerificationPair> pairs;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const std::vector<absl::string_view> columns = absl::StrSplit(line, '\t');
    VerificationPair pair;
    int same = 0;
    if (columns.size() != 3 || !absl::SimpleAtoi(columns[0], &pair.first) || !absl::SimpleAtoi(columns[1], &pair.second) ||
        !absl::SimpleAtoi(columns[2], &same) || same < 0 || same > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": line ", number, " is \"", line.substr(0, 80), "\"; imageA<TAB>imageB<TAB>0 or 1 is needed"));
    }
    for (const int64_t image : {pair.first, pair.second}) {
      if (image < 0 || image >= image_count) {
        return absl::InvalidArgumentError(absl::StrCat(file, ": line ", number, ": image ", image, " is outside [0, ", image_count, ")"));
      }
    }
    pair.same = same == 1;
    pairs.push_back(pair);
  }
  if (pairs.empty() || pairs.size() % kVerificationFolds != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", pairs.size(), " pairs; a positive multiple of ", kVerificationFolds, " is needed for equal folds"));
  }
  return pairs;
}

std::string FormatPairs(absl::Span<const VerificationPair> pairs) {
  std::string text;
  for (const VerificationPair& pair : pairs) absl::StrAppend(&text, pair.first, "\t", pair.second, "\t", pair.same ? 1 : 0, "\n");
  return text;
}

absl::StatusOr<std::vector<VerificationPair>> DrawPairs(absl::Span<const int64_t> labels, int64_t count, uint64_t seed) {
  if (count < 1 || count % (2 * kVerificationFolds) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("pairs is ", count, "; a positive multiple of ", 2 * kVerificationFolds,
                                                   " is needed (ten folds, half same, half different)"));
  }
  std::map<int64_t, std::vector<int64_t>> by_label;
  for (size_t i = 0; i < labels.size(); ++i) by_label[labels[i]].push_back(i);
  std::vector<const std::vector<int64_t>*> all;       // Images of each identity.
  std::vector<const std::vector<int64_t>*> multiple;  // Of those with at least two.
  for (const auto& [label, images] : by_label) {
    all.push_back(&images);
    if (images.size() > 1) multiple.push_back(&images);
  }
  if (all.size() < 2 || multiple.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("pairs need two identities and one with two images; there are ", all.size(),
                                                   " identities, ", multiple.size(), " of them with two images"));
  }
  KeyedRandom random(MixKey(seed, 0x7061697273));
  const auto pick = [&random](const auto& list) { return list[random.Below(list.size())]; };
  absl::flat_hash_set<std::pair<int64_t, int64_t>> taken;
  std::vector<VerificationPair> pairs;
  pairs.reserve(count);
  const int64_t half = count / kVerificationFolds / 2;
  // A try fails when the pair is taken or no pair; this many in a row say that hardly any is left.
  constexpr int kTries = 10000;
  for (int64_t i = 0; i < count; ++i) {
    const bool same = i / half % 2 == 0;
    bool found = false;
    for (int t = 0; t < kTries && !found; ++t) {
      const std::vector<int64_t>* first_images = pick(same ? multiple : all);
      const std::vector<int64_t>* second_images = same ? first_images : pick(all);
      if (!same && first_images == second_images) continue;
      const int64_t a = pick(*first_images);
      const int64_t b = pick(*second_images);
      found = a != b && taken.insert(std::minmax(a, b)).second;
      if (found) pairs.push_back({a, b, same});
    }
    if (!found) {
      return absl::InvalidArgumentError(absl::StrCat("pairs is ", count, ", but the images give hardly more than ", pairs.size(),
                                                     " different ones; ask for fewer, or give more images"));
    }
  }
  return pairs;
}

}  // namespace myriad
