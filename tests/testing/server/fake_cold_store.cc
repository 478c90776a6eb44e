#include "tests/testing/server/fake_cold_store.h"

#include <cstring>
#include <set>
#include <utility>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/store/cold_record.h"

namespace myriad {

class FakeDisk::Store : public ColdStore {
 public:
  explicit Store(FakeDisk* disk) : disk_(disk) {}

  absl::Status Read(absl::Span<Target> targets) override {
    for (size_t i = 1; i < targets.size(); ++i) EXPECT_LT(targets[i - 1].key, targets[i].key) << "keys must increase";
    if (absl::Status status = disk_->Begin(Call::kRead); !status.ok()) return status;
    absl::MutexLock lock(&disk_->mu_);
    for (Target& target : targets) {
      const auto found = disk_->records_.find(target.key);
      if (found == disk_->records_.end()) return absl::DataLossError(absl::StrCat("fake disk: record ", target.key, " is missing"));
      std::memcpy(target.bytes, found->second.bytes.data(), disk_->record_bytes_);
      target.step = found->second.step;
    }
    return absl::OkStatus();
  }

  int64_t record_bytes() const override { return disk_->record_bytes_; }

  Encoded Encode(const Record& record, char* value) const override {
    std::memcpy(value + kColdHeaderBytes, record.bytes, disk_->record_bytes_);
    SealColdValue(record.key, record.step, disk_->record_bytes_, value);
    return {record.key, {value, static_cast<size_t>(kColdHeaderBytes + disk_->record_bytes_)}};
  }

  absl::Status WriteEncoded(absl::Span<const Encoded> records) override {
    std::set<uint64_t> keys;
    for (const Encoded& record : records) EXPECT_TRUE(keys.insert(record.key).second) << "keys must be distinct";
    if (absl::Status status = disk_->Begin(Call::kWrite); !status.ok()) return status;
    absl::MutexLock lock(&disk_->mu_);
    for (const Encoded& record : records) {
      int64_t step = 0;
      EXPECT_TRUE(DecodeColdValue(record.key, record.value.data(), disk_->record_bytes_, &step)) << "changed since it was encoded";
      Put({record.key, step, reinterpret_cast<const std::byte*>(record.value.data() + kColdHeaderBytes)});
    }
    accepted_bytes_ += static_cast<int64_t>(records.size()) * disk_->record_bytes_;
    return absl::OkStatus();
  }

  absl::Status Ingest(const std::function<bool(Record* record)>& next) override {
    if (absl::Status status = disk_->Begin(Call::kIngest); !status.ok()) return status;
    Records run;
    Record record;
    while (next(&record)) {
      if (!run.empty() && record.key <= run.rbegin()->first) {
        return absl::InvalidArgumentError(absl::StrCat("fake disk: key ", record.key, " follows key ", run.rbegin()->first));
      }
      run[record.key] = {record.step, std::vector<std::byte>(record.bytes, record.bytes + disk_->record_bytes_)};
    }
    absl::MutexLock lock(&disk_->mu_);
    for (auto& [key, stored] : run) disk_->records_[key] = disk_->durable_[key] = std::move(stored);
    return absl::OkStatus();
  }

  // Of one instant, as a scan of RocksDB is; the visitor may wait.
  absl::Status Scan(uint64_t first, uint64_t end, const std::function<absl::Status(const Record& record)>& visit) override {
    if (absl::Status status = disk_->Begin(Call::kScan); !status.ok()) return status;
    const Records all = disk_->records();
    for (auto stored = all.lower_bound(first); stored != all.end() && stored->first < end; ++stored) {
      absl::Status status = visit({stored->first, stored->second.step, stored->second.bytes.data()});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status VerifyAll(const std::function<void(absl::Span<const Stamp> stamps)>& visit) override {
    if (absl::Status status = disk_->Begin(Call::kScan); !status.ok()) return status;
    std::vector<Stamp> stamps;
    for (const auto& [key, stored] : disk_->records()) stamps.push_back({key, ColdStore::StepOf(stored.step)});
    visit(stamps);
    return absl::OkStatus();
  }

  absl::Status Flush() override {
    if (absl::Status status = disk_->Begin(Call::kFlush); !status.ok()) return status;
    absl::MutexLock lock(&disk_->mu_);
    disk_->durable_ = disk_->records_;
    return absl::OkStatus();
  }

  absl::Status LinkTo(const std::string& folder) override {
    absl::Status status = disk_->Begin(Call::kLinkTo);
    return status.ok() ? absl::UnimplementedError(absl::StrCat("fake disk: has no folder ", folder)) : status;
  }

  absl::Status PutNote(absl::string_view name, absl::string_view bytes) override {
    if (absl::Status status = disk_->Begin(Call::kPutNote); !status.ok()) return status;
    absl::MutexLock lock(&disk_->mu_);
    disk_->notes_[std::string(name)] = std::string(bytes);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> GetNote(absl::string_view name) override {
    if (absl::Status status = disk_->Begin(Call::kGetNote); !status.ok()) return status;
    absl::MutexLock lock(&disk_->mu_);
    const auto found = disk_->notes_.find(std::string(name));
    if (found == disk_->notes_.end()) return absl::NotFoundError(absl::StrCat("fake disk: no note ", name));
    return found->second;
  }

  void KeepShort(int64_t, Shortener shortener) override {
    absl::MutexLock lock(&disk_->mu_);
    disk_->shortener_ = std::move(shortener);
  }

  Statistics statistics() const override {
    absl::MutexLock lock(&disk_->mu_);
    Statistics result;
    result.record_count_estimate = static_cast<int64_t>(disk_->records_.size());
    result.accepted_bytes = accepted_bytes_;
    return result;
  }

 private:
  void Put(const Record& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(disk_->mu_) {
    disk_->records_[record.key] = {record.step, std::vector<std::byte>(record.bytes, record.bytes + disk_->record_bytes_)};
  }

  FakeDisk* const disk_;
  int64_t accepted_bytes_ ABSL_GUARDED_BY(disk_->mu_) = 0;
};

std::unique_ptr<ColdStore> FakeDisk::Open() { return std::make_unique<Store>(this); }

void FakeDisk::SetHook(Hook hook) {
  absl::MutexLock lock(&mu_);
  hook_ = std::move(hook);
}

absl::Status FakeDisk::Begin(Call call) const {
  Hook hook;
  {
    absl::MutexLock lock(&mu_);
    hook = hook_;
  }
  return hook == nullptr ? absl::OkStatus() : hook(call);
}

FakeDisk::Records FakeDisk::records() const {
  absl::MutexLock lock(&mu_);
  return records_;
}

void FakeDisk::Compact() {
  absl::MutexLock lock(&mu_);
  for (auto& [key, stored] : records_) {
    if (shortener_ == nullptr || ColdStore::IsShort(stored.step) || !shortener_(key, &stored.step, stored.bytes.data())) continue;
    stored.step += ColdStore::kShort;
  }
}

FakeDisk::Records FakeDisk::durable() const {
  absl::MutexLock lock(&mu_);
  return durable_;
}

}  // namespace myriad
