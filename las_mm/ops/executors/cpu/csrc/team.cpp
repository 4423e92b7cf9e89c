#include "team.h"

#include <omp.h>
#include <sched.h>

namespace las {

void run_on_threads(int threads, const std::function<void(int)>& work) {
  if (threads <= 1) return work(0);
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num());
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
