// myriad-server: one shard.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/bench/bench_store.h"
#include "server/myriad_server.h"
#include "server/open_files.h"
#include "server/store/cold_store.h"
#include "version.h"

namespace {

// Writes the whole file or nothing: readers never see half an address.
absl::Status WriteAddressFile(const std::string& path, const std::string& address) {
  const std::string temporary = absl::StrCat(path, ".", getpid());
  FILE* file = fopen(temporary.c_str(), "w");
  if (file == nullptr) return absl::UnavailableError(absl::StrCat("cannot write ", temporary, ": ", std::strerror(errno)));
  const bool written = fprintf(file, "%s\n", address.c_str()) > 0;
  if (fclose(file) != 0 || !written || rename(temporary.c_str(), path.c_str()) != 0) {
    const std::string reason = std::strerror(errno);
    unlink(temporary.c_str());
    return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", reason));
  }
  return absl::OkStatus();
}

int Fail(const absl::Status& status) {
  fprintf(stderr, "myriad-server: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  // Debian's Abseil looks for deadlocks whenever a mutex is locked, in a table that all threads share. The tests do so.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Verbs on a store; `myriad` runs them under its own name.
  if (argc > 1 && std::strcmp(argv[1], "bench-store") == 0) {
    return myriad::BenchStoreMain(std::strcmp(argv[0], "myriad bench store") == 0 ? argv[0] : "myriad-server bench-store", argc - 1,
                                  argv + 1);
  }
  myriad::MyriadServer::Options options;
  options.listen = "127.0.0.1:7711";
  options.threads = 0;
  std::string address_file;
  CLI::App app("One shard of a Myriad deployment: keeps its part of the class centers of one or several heads and computes on it.",
               "myriad-server");
  app.set_version_flag("--version", absl::StrCat("myriad-server ", myriad::kVersion));
  app.failure_message(
      [](const CLI::App*, const CLI::Error& error) { return absl::StrCat("myriad-server: ", error.what(), "; see --help\n"); });
  app.add_option("--listen", options.listen, "HOST:PORT to serve on; port 0 lets the system choose")->capture_default_str();
  app.add_option("--address-file", address_file, "File that gets the bound host:port, in one piece, once the server serves");
  app.add_option("--max-rows", options.max_rows, "Rows that a head may have here; a step that needs more is refused; 0: no limit")
      ->capture_default_str();
  app.add_option("--store", options.store, "Folder that keeps the heads: rows beyond --memory lie there, and all of them after a stop");
  app.add_option("--memory", options.memory_bytes,
                 "For the rows of all heads with all that keeps track of them, such as 8GiB; 0: no limit but the machine's")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  app.add_option("--threads", options.threads, "Threads that compute; 0: one a core")->capture_default_str();
  app.add_option("--max-message-mib", options.max_message_mib, "Largest message that is taken, MiB, in [1, 2047]")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (options.threads == 0) options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (options.threads < 1 || options.threads > 4096) {
    return Fail(absl::InvalidArgumentError(absl::StrCat("--threads ", options.threads, " is outside [0, 4096]")));
  }

  // Signals are taken by one thread; every thread made from here on inherits the mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  std::atomic<bool> serves{false};
  absl::Notification stop;
  std::thread([&] {
    int received = 0;
    sigwait(&signals, &received);
    printf("myriad-server: %s, stopping\n", received == SIGTERM ? "SIGTERM" : "SIGINT");
    fflush(stdout);
    // A store may take minutes to be checked, and is not changed meanwhile.
    if (!serves) _exit(0);
    stop.Notify();
  }).detach();

  at::set_num_threads(options.threads);
  options.log = [](const std::string& line) {
    printf("myriad-server: %s\n", line.c_str());
    fflush(stdout);
  };
  const int64_t open_files = myriad::RaiseOpenFileLimit();
  if (!options.store.empty() && open_files < myriad::ColdStore::kMostOpenFiles) {
    options.log(absl::StrCat("may have ", open_files, " files open (ulimit -Hn); a large store is read faster with ",
                             myriad::ColdStore::kMostOpenFiles + 1024));
  }
  absl::StatusOr<std::unique_ptr<myriad::MyriadServer>> server = myriad::MyriadServer::Start(options);
  if (!server.ok()) return Fail(server.status());
  if (!address_file.empty()) {
    if (absl::Status status = WriteAddressFile(address_file, (*server)->address()); !status.ok()) return Fail(status);
  }
  printf("myriad-server %s serves on %s with %d threads\n", myriad::kVersion, (*server)->address().c_str(), options.threads);
  fflush(stdout);

  serves = true;
  stop.WaitForNotification();
  const absl::Status stopped = (*server)->Stop();
  return stopped.ok() ? 0 : Fail(stopped);
}
