// Blocks that follow each other, as Python holds them.
#pragma once

#include <memory>
#include <variant>

#include "py_channels.h"

namespace las {

template <class T>
class PyChain {
 public:
  using Member = std::variant<std::shared_ptr<PyBlock<T>>, std::shared_ptr<PyChannelBlock<T>>>;
  using Masks = std::vector<std::optional<at::Tensor>>;

  explicit PyChain(std::vector<Member> blocks) : blocks_(std::move(blocks)) {
    TORCH_CHECK_VALUE(!blocks_.empty(), "blocks: got none, give at least one");
  }

  // x: (N, C, H, W), channels-last; written over if `in_place`, which the first block must allow.
  // identity: of the first block, see PyBlock. decided: a mask of patches or none per block; groups:
  // the same of channels, see PyChannelBlock. Returns the last output, and of each block the masks.
  std::tuple<at::Tensor, Masks, Masks> run(at::Tensor x, const std::optional<at::Tensor>& identity,
                                           const Masks& decided, const Masks& groups,
                                           bool in_place) const {
    TORCH_CHECK_VALUE(decided.size() == blocks_.size() && groups.size() == blocks_.size(),
                      "decided: got ", decided.size(), " and ", groups.size(), " masks for ",
                      blocks_.size(), " blocks");
    std::vector<at::Tensor> outs;  // the links point into them
    std::vector<Link<T>> links;
    Masks masks, computed(blocks_.size());
    const auto given = [&](size_t i) { return i == 0 ? identity : std::nullopt; };
    for (size_t i = 0; i < blocks_.size(); i++) {
      const bool over = i == 0 ? in_place : may_write_over(blocks_[i]);
      if (const auto* block = std::get_if<std::shared_ptr<PyBlock<T>>>(&blocks_[i])) {
        auto prepared = (*block)->prepare(x, given(i), decided[i], over);
        x = prepared.out;
        masks.push_back(std::move(prepared.mask));
        links.push_back(std::move(prepared.link));
      } else {  // it decides on channels before anything of it runs
        run_chain(links, free_threads());
        links.clear();
        const auto& channels = *std::get<std::shared_ptr<PyChannelBlock<T>>>(blocks_[i]);
        auto [out, mask, found] = channels.run(x, groups[i], given(i), decided[i], over);
        x = std::move(out);
        masks.push_back(std::move(mask));
        computed[i] = std::move(found);
      }
      outs.push_back(x);
    }
    run_chain(links, free_threads());
    return {x, std::move(masks), std::move(computed)};
  }

 private:
  static bool may_write_over(const Member& member) {
    return std::visit([](const auto& block) { return block->may_write_over(); }, member);
  }

  std::vector<Member> blocks_;
};

}  // namespace las
