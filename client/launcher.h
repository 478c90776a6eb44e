#ifndef MYRIAD_CLIENT_LAUNCHER_H_
#define MYRIAD_CLIENT_LAUNCHER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "myriad/config/v1/job.pb.h"

namespace myriad {

// A training run as processes of this machine: K servers and R workers on loopback.
struct LaunchOptions {
  config::v1::JobConfig config;  // After FillDefaults; local.shards and local.workers say how many, run_dir where.
  std::string server_binary;
  std::string worker_binary;
  std::string device = "auto";      // Given to the workers.
  bool trace = false;               // Each worker writes RUN/logs/trace-R.json.
  bool resume = false;              // Goes on from the newest save of the run folder, which is there.
  bool accept_mixed_steps = false;  // Trains on from rows that an unclean stop of a server left between two steps.
  int cores = 1;                    // Divided: cores / R threads a worker, cores / K a server, each at least 1.
  int output_fd = 1;                // Where the division and worker 0's stdout go. Not closed.
  // How many times the user has asked to stop: at 1 workers get SIGTERM, and the time that they need to finish the step and to save the
  // run, then servers a few seconds; at 2 all are killed. Never when empty. A signal handler that counts is noticed at once.
  std::function<int()> stop_requests;
  absl::Duration stop_grace = absl::Seconds(15);  // For workers to end once the run has failed.
};

// What each process gets of the machine.
struct ThreadDivision {
  int per_server = 1;
  int per_worker = 1;
};
ThreadDivision DivideThreads(int cores, int servers, int workers);

// Makes the run folder, starts the processes (logs in RUN/logs; worker 0's stdout also to `output_fd`), and waits until all workers have
// ended well. No process is left when it returns, nor when this process is killed. Call from a thread that lives until then. After an
// error the folder of a new run is removed again if no step was reported or saved yet: the corrected command may name it again.
// Errors: before anything is made: NOT_FOUND (a binary, a data folder; with `resume` no run folder, or no save in it), FAILED_PRECONDITION
// (the run folder is not empty; with `resume` a save of another number of shards, both named). Then, naming the process to blame, how it
// ended and the last 20 lines of its log (the others are stopped): INTERNAL (a worker or a starting server ended with an error), DATA_LOSS
// (a server with its rows or a worker was lost: the run can be started again, or resumed). CANCELLED (`stop_requests`) saying what is saved
// and how to go on; others of the system.
absl::Status LaunchTraining(const LaunchOptions& options);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_LAUNCHER_H_
