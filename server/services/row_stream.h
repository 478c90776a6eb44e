#ifndef MYRIAD_SERVER_SERVICES_ROW_STREAM_H_
#define MYRIAD_SERVER_SERVICES_ROW_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "head/head_spec.h"
#include "proto/wire/status.h"
#include "server/runtime/timer.h"

namespace myriad {

// Rows that fit a message of a stream, 1 MiB of weights and slots; at least one.
inline int64_t RowsPerMessage(const HeadSpec& head, bool with_slots) {
  const int64_t row_bytes = int64_t{4} * (head.embedding_dim + (with_slots ? SlotNumbers(head) : 0));
  return std::max<int64_t>(1, (int64_t{1} << 20) / row_bytes);
}

// Cancels a call whose caller takes no message for a minute, or for less when somebody waits for what the stream holds.
class StallGuard : public std::enable_shared_from_this<StallGuard> {
 public:
  StallGuard(grpc::CallbackServerContext* context, Timer* timer) : timer_(timer), context_(context) {}

  void Arm() {
    absl::MutexLock lock(&mu_);
    armed_ = true;
    Start();
  }
  void Disarm() {
    absl::MutexLock lock(&mu_);
    armed_ = false;
    timer_->Cancel(id_);
  }
  // From now on a message must be taken within `patience`, the one on its way too.
  void Hurry(absl::Duration patience) {
    absl::MutexLock lock(&mu_);
    patience_ = patience;
    if (!armed_) return;
    timer_->Cancel(id_);
    Start();
  }
  // The context is about to go.
  void Release() {
    absl::MutexLock lock(&mu_);
    context_ = nullptr;
  }

 private:
  void Start() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    id_ = timer_->RunAt(timer_->Now() + patience_, [weak = weak_from_this()] {
      const std::shared_ptr<StallGuard> self = weak.lock();
      if (self == nullptr) return;
      absl::MutexLock lock(&self->mu_);
      if (self->context_ != nullptr) self->context_->TryCancel();
    });
  }

  Timer* const timer_;
  absl::Mutex mu_;
  absl::Duration patience_ ABSL_GUARDED_BY(mu_) = absl::Minutes(1);
  bool armed_ ABSL_GUARDED_BY(mu_) = false;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mu_);
  Timer::Id id_ ABSL_GUARDED_BY(mu_) = 0;
};

// Streams messages that are made one after another, each once the one before was taken by the transport, until there is no more, an error,
// or the caller is gone. Deletes itself.
template <typename Response>
class MessageStream : public grpc::ServerWriteReactor<Response> {
 public:
  // What the next message is made with: OK and a message, or OK and nullptr at the end.
  using Made = std::function<void(absl::StatusOr<std::unique_ptr<Response>>)>;
  // Makes the next message and calls back, on any thread, perhaps at once. Not called again before that.
  using Source = std::function<void(Made)>;

  // `timer` outlives the stream. `on_end` is called once, when no more messages are asked for.
  MessageStream(grpc::CallbackServerContext* context, Timer* timer, Source source, std::function<void()> on_end)
      : context_(context), guard_(std::make_shared<StallGuard>(context, timer)), source_(std::move(source)), on_end_(std::move(on_end)) {}

  // Lives as long as anybody holds it, also after the stream.
  const std::shared_ptr<StallGuard>& guard() const { return guard_; }
  // Begins. Apart from the constructor because the source may call back at once.
  void Start() { Next(); }

  void OnWriteDone(bool ok) override {
    guard_->Disarm();
    if (ok) {
      Next();
    } else {
      End(absl::CancelledError("the caller is gone"));
    }
  }
  void OnDone() override {
    guard_->Release();
    delete this;
  }

 private:
  void Next() {
    if (context_->IsCancelled()) return End(absl::CancelledError("the caller is gone"));
    source_([this](absl::StatusOr<std::unique_ptr<Response>> message) {
      if (!message.ok()) return End(message.status());
      if (*message == nullptr) return End(absl::OkStatus());
      message_ = *std::move(message);
      guard_->Arm();
      this->StartWrite(message_.get());
    });
  }
  void End(const absl::Status& status) {
    on_end_();
    this->Finish(ToGrpcStatus(status));
  }

  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<StallGuard> guard_;
  const Source source_;
  const std::function<void()> on_end_;
  std::unique_ptr<Response> message_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_ROW_STREAM_H_
