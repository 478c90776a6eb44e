#include "server/store/fresh_tables.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"

namespace myriad {

void TableEnds::Put(uint64_t offset, absl::string_view bytes) {
  Truncate(std::min(offset, end_));
  if (offset > end_) last_.clear();  // Nobody knows what lies between.
  if (offset == first_.size()) first_.append(bytes.data(), std::min(bytes.size(), kFirstBytes - first_.size()));
  end_ = offset + bytes.size();
  const size_t kept = std::min(bytes.size(), kLastBytes);
  if (last_.size() + kept > kLastBytes) last_.erase(0, last_.size() + kept - kLastBytes);
  last_.append(bytes.data() + bytes.size() - kept, kept);
}

void TableEnds::Truncate(uint64_t size) {
  if (size >= end_) return;
  last_.resize(last_.size() - std::min<uint64_t>(last_.size(), end_ - size));
  first_.resize(std::min<uint64_t>(first_.size(), size));
  end_ = size;
}

std::optional<size_t> TableEnds::Read(uint64_t offset, size_t size, char* bytes) const {
  const uint64_t begin = std::min(offset, end_);
  const uint64_t count = std::min<uint64_t>(size, end_ - begin);
  if (begin + count <= first_.size()) {
    std::memcpy(bytes, first_.data() + begin, count);
  } else if (begin >= end_ - last_.size()) {
    std::memcpy(bytes, last_.data() + last_.size() - (end_ - begin), count);
  } else {
    return std::nullopt;
  }
  return count;
}

bool FreshTables::IsFresh(const std::string& path) { return absl::StartsWith(path.substr(path.rfind('/') + 1), kPrefix); }

void FreshTables::Add(const std::string& path, std::shared_ptr<const TableEnds> ends) {
  absl::MutexLock lock(&mu_);
  tables_[path] = std::move(ends);
}

void FreshTables::Remove(const std::string& path) {
  absl::MutexLock lock(&mu_);
  if (tables_.erase(path) == 0) return;
  for (auto link = links_.begin(); link != links_.end();) link = link->second.expired() ? links_.erase(link) : std::next(link);
}

void FreshTables::Link(const std::string& path, const std::string& other) {
  absl::MutexLock lock(&mu_);
  const auto found = tables_.find(path);
  if (found != tables_.end()) links_[other] = found->second;
}

std::weak_ptr<const TableEnds> FreshTables::Find(const std::string& path) const {
  absl::MutexLock lock(&mu_);
  if (const auto table = tables_.find(path); table != tables_.end()) return table->second;
  const auto link = links_.find(path);
  return link == links_.end() ? std::weak_ptr<const TableEnds>() : link->second;
}

}  // namespace myriad
