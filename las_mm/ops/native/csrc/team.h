// Threads that walk through the same phases and share the jobs of each.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace las {

// Run `work(0)` on this thread and `work(1)`, … on more of OpenMP's, which is PyTorch's own pool.
void run_on_threads(int threads, const std::function<void(int)>& work);

// From now on the thread that forks sends OpenMP's others home before: they do not come along, and the
// child would wait for them forever, in PyTorch's operators, too. Both sides hire new ones.
void survive_forks();

// Give the core away when a wait lasts: more threads than cores must not stand still.
void relax(int& spins);

// A phase has a preparation, done by whoever comes first, and jobs. Each member begins with its own
// share of the jobs, the same part of the image in every phase, which so stays in its core's cache;
// then it helps the others. Nobody waits for a thread that has not come: any number of members can
// finish all phases, late ones find them done.
class Team {
  static constexpr int kFresh = 0, kPreparing = 1, kReady = 2;

  struct alignas(64) Phase {
    std::atomic<int> state{kFresh}, done{0};
    int jobs = 0;
  };

  struct alignas(64) Share {
    std::atomic<int> next{0};  // jobs taken so far
  };

 public:
  Team(int phases, int members)
      : members_(members), phases_(new Phase[phases]), shares_(new Share[phases * members]) {}

  // One thread's walk through the phases.
  class Member {
   public:
    Member(Team& team, int index) : team_(team), index_(index) {}

    // `prepare()` returns the number of jobs and sees all earlier phases finished; `job(index)` runs
    // once for each. On return all jobs are done.
    template <class Prepare, class Job>
    void phase(const Prepare& prepare, const Job& job) {
      Phase& phase = team_.phases_[phase_];
      int expected = kFresh, spins = 0;
      if (phase.state.compare_exchange_strong(expected, kPreparing)) {
        phase.jobs = prepare();
        phase.state.store(kReady, std::memory_order_release);
      }
      while (phase.state.load(std::memory_order_acquire) != kReady) relax(spins);
      for (int i = 0; i < team_.members_; i++) {
        work_on((index_ + i) % team_.members_, phase, job);
      }
      spins = 0;
      while (phase.done.load(std::memory_order_acquire) < phase.jobs) relax(spins);
      phase_++;
    }

   private:
    template <class Job>
    void work_on(int owner, Phase& phase, const Job& job) {
      const int first = static_cast<int>(int64_t{phase.jobs} * owner / team_.members_);
      const int last = static_cast<int>(int64_t{phase.jobs} * (owner + 1) / team_.members_);
      std::atomic<int>& next = team_.shares_[phase_ * team_.members_ + owner].next;
      for (int i; (i = first + next.fetch_add(1, std::memory_order_relaxed)) < last;) {
        job(i);
        phase.done.fetch_add(1, std::memory_order_release);
      }
    }

    Team& team_;
    const int index_;
    int phase_ = 0;
  };

 private:
  const int members_;
  std::unique_ptr<Phase[]> phases_;
  std::unique_ptr<Share[]> shares_;
};

}  // namespace las
