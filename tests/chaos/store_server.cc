#include "tests/chaos/store_server.h"

#include <signal.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

constexpr char kServer[] = "server/myriad-server";  // Among the test's runfiles, where it runs.
constexpr absl::Duration kPatience = absl::Minutes(3);

}  // namespace

StoreServer::StoreServer(const Options& options) {
  ChildProcess::Options child;
  child.arguments = options.launcher;
  for (const std::string& argument : {std::string(kServer), std::string("--listen"), std::string("127.0.0.1:0"), std::string("--threads"),
                                      std::string("1"), std::string("--address-file"), dir_.File("address"), std::string("--store"),
                                      options.store, std::string("--memory"), absl::StrCat(options.memory_bytes)}) {
    child.arguments.push_back(argument);
  }
  child.environment = QuietOpenMp();
  child.log_path = dir_.File("log");
  auto process = ChildProcess::Spawn(child);
  if (!process.ok()) {
    ADD_FAILURE() << process.status();
    std::abort();
  }
  process_ = *std::move(process);
}

bool StoreServer::WaitUntilItServes() {
  const absl::Time give_up = absl::Now() + kPatience;
  while (absl::Now() < give_up && !process_->Poll().has_value()) {
    address_ = std::string(absl::StripAsciiWhitespace(ReadText(dir_.File("address"))));
    if (!address_.empty()) {
      stubs_ = std::make_unique<ShardStubs>(address_);
      return true;
    }
    process_->Wait(absl::Milliseconds(5));
  }
  return false;
}

ProcessExit StoreServer::Wait() {
  const absl::optional<ProcessExit> exit = process_->Wait(kPatience);
  EXPECT_TRUE(exit.has_value()) << "it does not end: " << Log();
  return exit.value_or(ProcessExit{});
}

ProcessExit StoreServer::Stop() {
  Signal(SIGTERM);
  return Wait();
}

std::string StoreServer::Log() const { return LastLines(dir_.File("log"), 1000); }

}  // namespace myriad
