#include "server/store/presence_bitmap.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

int64_t WordCount(int64_t bits) { return (bits + 63) / 64; }

}  // namespace

PresenceBitmap::PresenceBitmap(const Partitions& partitions, int shard, int shard_count)
    : partitions_(partitions),
      first_(partitions.ShardRange(shard, shard_count).first),
      last_(partitions.ShardRange(shard, shard_count).second),
      words_(last_ - first_) {}

bool PresenceBitmap::Test(RowKey key) const {
  const Partitions::Place place = PlaceOfKey(key);
  const std::vector<uint64_t>& words = WordsOf(place.partition);
  return !words.empty() && (words[place.index >> 6] >> (place.index & 63) & 1) != 0;
}

void PresenceBitmap::MakeRoom(RowKey key) {
  const int32_t partition = PlaceOfKey(key).partition;
  if (WordsOf(partition).empty()) WordsOf(partition).resize(WordCount(partitions_.size(partition)));
}

void PresenceBitmap::Set(RowKey key) {
  MakeRoom(key);
  const Partitions::Place place = PlaceOfKey(key);
  uint64_t& word = WordsOf(place.partition)[place.index >> 6];
  const uint64_t bit = uint64_t{1} << (place.index & 63);
  count_ += (word & bit) == 0;
  word |= bit;
}

void PresenceBitmap::Clear(RowKey key) {
  if (!Test(key)) return;
  const Partitions::Place place = PlaceOfKey(key);
  WordsOf(place.partition)[place.index >> 6] &= ~(uint64_t{1} << (place.index & 63));
  --count_;
}

std::vector<RowKey> PresenceBitmap::Next(RowKey after, int64_t max) const {
  std::vector<RowKey> keys;
  const Partitions::Place start = after < 0 ? Partitions::Place{first_, 0} : PlaceOfKey(after + 1);
  for (int32_t partition = std::max(start.partition, first_); partition < last_; ++partition) {
    const std::vector<uint64_t>& words = WordsOf(partition);
    const int64_t from = partition == start.partition ? start.index : 0;
    for (int64_t w = from >> 6; w < static_cast<int64_t>(words.size()); ++w) {
      uint64_t word = words[w];
      if (w == from >> 6) word &= ~uint64_t{0} << (from & 63);
      for (; word != 0; word &= word - 1) {
        if (static_cast<int64_t>(keys.size()) == max) return keys;
        keys.push_back(KeyOfPlace({partition, w * 64 + __builtin_ctzll(word)}));
      }
    }
  }
  return keys;
}

std::string PresenceBitmap::Serialize() const {
  const Shape shape{partitions_.class_count(), first_, last_, count_};
  std::string bytes(reinterpret_cast<const char*>(&shape), sizeof(shape));
  for (int32_t partition = first_; partition < last_; ++partition) {
    std::vector<uint64_t> words = WordsOf(partition);
    words.resize(WordCount(partitions_.size(partition)));
    bytes.append(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint64_t));
  }
  const uint64_t checksum = XXH3_64bits(bytes.data(), bytes.size());
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return bytes;
}

absl::Status PresenceBitmap::Parse(const std::string& bytes) {
  Shape shape;
  uint64_t checksum = 0;
  if (bytes.size() < sizeof(shape) + sizeof(checksum)) {
    return absl::DataLossError(absl::StrCat("the bitmap of rows that exist has only ", bytes.size(), " bytes"));
  }
  const size_t body = bytes.size() - sizeof(checksum);
  std::memcpy(&shape, bytes.data(), sizeof(shape));
  std::memcpy(&checksum, bytes.data() + body, sizeof(checksum));
  if (checksum != XXH3_64bits(bytes.data(), body))
    return absl::DataLossError("the bitmap of rows that exist is damaged: its checksum is wrong");
  if (shape.class_count != partitions_.class_count() || shape.first_partition != first_ || shape.last_partition != last_) {
    return absl::FailedPreconditionError(absl::StrCat("the bitmap of rows that exist is of ", shape.class_count, " classes, partitions ",
                                                      shape.first_partition, " to ", shape.last_partition, "; this shard has ",
                                                      partitions_.class_count(), ", ", first_, " to ", last_));
  }
  size_t wanted = sizeof(shape);
  for (int32_t partition = first_; partition < last_; ++partition) wanted += WordCount(partitions_.size(partition)) * sizeof(uint64_t);
  if (wanted != body) return absl::DataLossError(absl::StrCat("the bitmap of rows that exist has ", body, " bytes, not ", wanted));

  const char* from = bytes.data() + sizeof(shape);
  count_ = 0;
  for (int32_t partition = first_; partition < last_; ++partition) {
    std::vector<uint64_t> words(WordCount(partitions_.size(partition)));
    std::memcpy(words.data(), from, words.size() * sizeof(uint64_t));
    from += words.size() * sizeof(uint64_t);
    int64_t set = 0;
    for (uint64_t word : words) set += __builtin_popcountll(word);
    if (set == 0) words = {};
    WordsOf(partition) = std::move(words);
    count_ += set;
  }
  return absl::OkStatus();
}

}  // namespace myriad
