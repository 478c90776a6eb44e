#include "server/bench/bench_hot_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>

#include <ATen/Parallel.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/partitions.h"
#include "head/row_kernels.h"
#include "server/store/huge_pages.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/tiered_row_store.h"

namespace myriad {
namespace {

// What an update adds to every number.
constexpr float kAdded = 0.0078125f;

double SecondsSince(absl::Time start) { return absl::ToDoubleSeconds(absl::Now() - start); }

// Of the rows that a step used, with `added` on top of their first values.
absl::Status Check(const TieredRowStore& store, const RowCodec& codec, int dim, absl::Span<const int64_t> class_ids, float added) {
  std::vector<float> read(class_ids.size() * dim), expected(dim);
  std::vector<std::byte> record(codec.record_bytes());
  if (absl::Status status = store.Read(class_ids, read.data(), nullptr, nullptr, nullptr); !status.ok()) return status;
  for (size_t i = 0; i < class_ids.size(); ++i) {
    codec.EncodeVirtual(class_ids[i], record.data());
    codec.Decode(record.data(), expected.data(), nullptr);
    for (int d = 0; d < dim; ++d) {
      const float value = read[i * dim + d];
      // A 16-bit number has 8 bits, and the sum was rounded once.
      if (std::abs(value - (expected[d] + added)) > std::abs(expected[d] + added) * 0.01f) {
        return absl::InternalError(absl::StrCat("row ", class_ids[i], ", number ", d, " is ", value, ", not ", expected[d] + added));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Measured>> BenchHotRows(const HeadSpec& head, int64_t rows, int64_t step_rows, int rounds) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  TieredRowStore::Options options;
  options.head = head;
  options.head.class_count = rows;
  const Partitions partitions(rows, head.seed, head.partition_count);
  TieredRowStore store(options, nullptr, std::make_unique<PresenceBitmap>(partitions, 0, 1));
  const RowCodec codec(options.head);
  const int dim = head.embedding_dim;
  step_rows = std::min(step_rows, rows / 2);
  if (absl::Status status = store.Reserve(rows); !status.ok()) return status;
  std::vector<int64_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(1);
  std::shuffle(order.begin(), order.end(), random);
  const absl::Span<const int64_t> all(order);
  RowStore::PinFigures figures;
  std::vector<float> scratch(store.pinned_rows().scratch_floats()), ones(dim, 1.0f);
  // As a step's optimizer comes by its rows.
  const auto add = [&](float added) {
    RowEditor& pinned = store.pinned_rows();
    for (int64_t i = 0; i < pinned.count(); ++i) {
      if (i + kPrefetchDistance < pinned.count()) pinned.PrefetchToChange(i + kPrefetchDistance);
      pinned.Change(i, scratch.data(), [&](float* weights, float* slots) {
        AddScaled(added, ones.data(), dim, weights);
        AddScaled(added, ones.data(), dim, slots);
      });
    }
    store.Commit();
  };
  for (int64_t first = 0; first < rows; first += step_rows) {
    if (absl::Status status = store.Pin(0, all.subspan(first, step_rows), &figures); !status.ok()) return status;
    add(0.0f);
  }

  Measured read{"hot read", "memcpy of the rows", step_rows, step_rows * dim * 4, step_rows * dim * 4};
  Measured update{"hot update", "memcpy of rows and slots", step_rows, step_rows * dim * 8, step_rows * dim * 8};
  // As the slab lies.
  const HugePages plain(rows * 2 * dim * static_cast<int64_t>(sizeof(float)));
  const HugePages out(step_rows * 2 * dim * static_cast<int64_t>(sizeof(float)));
  if (plain.data() == nullptr || out.data() == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no memory for ", rows, " rows"));
  std::memset(plain.data(), 1, plain.bytes());
  const absl::Span<const int64_t> first_half = all.subspan(0, rows / 2);
  for (int round = 0; round <= rounds; ++round) {
    // The first round warms up. Updated rows are of the second half, so that what is read stays known.
    std::vector<int64_t> class_ids;
    std::sample(first_half.begin(), first_half.end(), std::back_inserter(class_ids), step_rows, random);
    std::shuffle(class_ids.begin(), class_ids.end(), random);
    absl::Time start = absl::Now();
    if (absl::Status status = store.Read(class_ids, out.data(), nullptr, nullptr, nullptr); !status.ok()) return status;
    if (round > 0) read.seconds.push_back(SecondsSince(start));
    start = absl::Now();
    for (int64_t i = 0; i < step_rows; ++i) std::memcpy(out.data() + i * dim, plain.data() + class_ids[i] * 2 * dim, dim * 4);
    if (round > 0) read.bound_seconds.push_back(SecondsSince(start));
    if (absl::Status status = Check(store, codec, dim, class_ids, 0.0f); !status.ok()) return status;

    class_ids.clear();
    const absl::Span<const int64_t> second_half = all.subspan(rows / 2);
    std::sample(second_half.begin(), second_half.end(), std::back_inserter(class_ids), step_rows, random);
    std::shuffle(class_ids.begin(), class_ids.end(), random);
    start = absl::Now();
    if (absl::Status status = store.Pin(round + 1, class_ids, &figures); !status.ok()) return status;
    add(kAdded);
    if (round > 0) update.seconds.push_back(SecondsSince(start));
    start = absl::Now();
    for (int64_t i = 0; i < step_rows; ++i) std::memcpy(out.data() + i * 2 * dim, plain.data() + class_ids[i] * 2 * dim, 2 * dim * 4);
    if (round > 0) update.bound_seconds.push_back(SecondsSince(start));
    if (round == 0) {
      if (absl::Status status = Check(store, codec, dim, class_ids, kAdded); !status.ok()) return status;
    }
  }
  at::set_num_threads(threads);
  return std::vector<Measured>{read, update};
}

}  // namespace myriad
