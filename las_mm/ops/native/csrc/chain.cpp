#include "chain.h"

#include <algorithm>
#include <list>
#include <optional>

#include "execution.h"

namespace las {
namespace {

// More maskers than this are not told of a pixel: on average it costs less to read it again.
constexpr size_t kMostFollowers = 4;

// Give every masker room for its opinions, and let blocks tell those after them of the pixels that
// they write. Their opinions are complete from a block on that writes all pixels, or reads all for
// its own masker, through blocks that write some pixels in place.
template <class T>
void introduce_listeners(std::vector<Link<T>>& links, std::list<Buffer<Opinion>>& buffers) {
  buffers.resize(std::max(buffers.size(), links.size()));
  auto buffer = buffers.begin();
  for (Link<T>& link : links) {
    Call<T>& call = link.call;
    if (link.block->masker) call.opinions = buffer->reserve(size_t(call.n) * call.h * call.w);
    buffer++;
  }
  for (size_t i = 0; i < links.size(); i++) {
    const bool in_place = links[i].call.identity == Identity::in_place;
    if (in_place && (links[i].call.told || !links[i].block->masker)) continue;
    for (size_t j = i + 1; j < links.size() && j - i <= kMostFollowers; j++) {
      if (!links[j - 1].block->is_together()) break;
      Call<T>& call = links[j].call;
      if (const Masker* masker = links[j].block->masker.get()) {
        call.told = true;
        for (size_t k = i; k < j; k++) {
          links[k].call.followers.push_back({masker->rounded.data(), call.opinions});
        }
      }
      if (call.identity != Identity::in_place) break;
    }
  }
}

}  // namespace

template <class T>
void run_chain(std::vector<Link<T>>& links, int threads) {
  if (links.empty() || links[0].call.n == 0) return;
  // Kept between calls: memory that is given back is paid for again, page by page.
  static thread_local Workspace kept;
  Workspace& space = kept;  // of this thread, also where another one prepares a block
  introduce_listeners(links, space.opinions);
  for (size_t i = 0; i + 1 < links.size(); i++) links[i].call.next = &links[i + 1].block->convs[0];
  std::vector<std::optional<Execution<T>>> executions(links.size());
  Team team(static_cast<int>(links.size()) + 1, threads);
  // All share the workspace: one begins when the one before it has finished.
  const auto change = [&](size_t next) {
    if (next > 0) executions[next - 1]->finish();
    if (next < links.size()) {
      executions[next].emplace(*links[next].block, links[next].call, space, threads);
    }
    return 0;
  };
  run_on_threads(threads, [&](int thread) {
    Team::Member member(team, thread);
    for (size_t i = 0; i <= links.size(); i++) {
      member.phase([&] { return change(i); }, [](int) {});
      if (i < links.size()) executions[i]->work(thread);
    }
  });
}

template void run_chain(std::vector<Link<float>>&, int);
template void run_chain(std::vector<Link<bfloat16>>&, int);
template void run_chain(std::vector<Link<uint8_t>>&, int);

}  // namespace las
