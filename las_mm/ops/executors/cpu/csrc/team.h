// Threads that walk through the same phases and share the jobs of each.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

namespace las {

// Run `work` on this thread and `threads - 1` more of OpenMP's, which is PyTorch's own pool.
void run_on_threads(int threads, const std::function<void()>& work);

// Give the core away when a wait lasts: more threads than cores must not stand still.
void relax(int& spins);

// A phase has a preparation, done by whoever comes first, and jobs, taken in turn. Nobody waits for
// a thread that has not come: any number of members can finish all phases, late ones find them done.
class Team {
  static constexpr int kFresh = 0, kPreparing = 1, kReady = 2;

  struct alignas(64) Phase {
    std::atomic<int> state{kFresh}, next{0}, done{0};
    int jobs = 0;
  };

 public:
  explicit Team(int phases) : phases_(new Phase[phases]) {}

  // One thread's walk through the phases.
  class Member {
   public:
    explicit Member(Team& team) : next_(team.phases_.get()) {}

    // `prepare()` returns the number of jobs and sees all earlier phases finished; `job(index)` runs
    // once for each. On return all jobs are done.
    template <class Prepare, class Job>
    void phase(const Prepare& prepare, const Job& job) {
      Phase& phase = *next_++;
      int expected = kFresh, spins = 0;
      if (phase.state.compare_exchange_strong(expected, kPreparing)) {
        phase.jobs = prepare();
        phase.state.store(kReady, std::memory_order_release);
      }
      while (phase.state.load(std::memory_order_acquire) != kReady) relax(spins);
      for (int index; (index = phase.next.fetch_add(1, std::memory_order_relaxed)) < phase.jobs;) {
        job(index);
        phase.done.fetch_add(1, std::memory_order_release);
      }
      spins = 0;
      while (phase.done.load(std::memory_order_acquire) < phase.jobs) relax(spins);
    }

   private:
    Phase* next_;
  };

 private:
  std::unique_ptr<Phase[]> phases_;
};

}  // namespace las
