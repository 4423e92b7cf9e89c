#include "team.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

namespace las {

void run_on_threads(int threads, const std::function<void(int)>& work) {
  if (threads <= 1) return work(0);
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num());
}

void survive_forks() {
#if _OPENMP >= 201811 || (defined(__GNUC__) && __GNUC__ >= 9)
  pthread_atfork([] { omp_pause_resource_all(omp_pause_soft); }, nullptr, nullptr);
#endif
}

void relax(int& spins) {
  if (++spins > 4000) {
    sched_yield();
  } else {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

}  // namespace las
