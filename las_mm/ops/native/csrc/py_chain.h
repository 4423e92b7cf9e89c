// Blocks that follow each other, as Python holds them.
#pragma once

#include <memory>

#include "py_block.h"

namespace las {

template <class T>
class PyChain {
 public:
  using Masks = std::vector<std::optional<at::Tensor>>;

  explicit PyChain(std::vector<std::shared_ptr<PyBlock<T>>> blocks) : blocks_(std::move(blocks)) {
    TORCH_CHECK_VALUE(!blocks_.empty(), "blocks: got none, give at least one");
  }

  // x: (N, C, H, W), channels-last; written over if `in_place`, which the first block must allow.
  // identity: of the first block, see PyBlock. decided: one mask or none per block. Returns the
  // last output and each block's mask.
  std::tuple<at::Tensor, Masks> run(at::Tensor x, const std::optional<at::Tensor>& identity,
                                    const Masks& decided, bool in_place) const {
    TORCH_CHECK_VALUE(decided.size() == blocks_.size(), "decided: got ", decided.size(),
                      " masks for ", blocks_.size(), " blocks");
    std::vector<at::Tensor> outs;  // the links point into them
    std::vector<Link<T>> links;
    Masks masks;
    for (size_t i = 0; i < blocks_.size(); i++) {
      const bool over = i == 0 ? in_place : blocks_[i]->may_write_over();
      auto prepared = blocks_[i]->prepare(x, i == 0 ? identity : std::nullopt, decided[i], over);
      x = prepared.out;
      outs.push_back(x);
      masks.push_back(std::move(prepared.mask));
      links.push_back(std::move(prepared.link));
    }
    run_chain(links, free_threads());
    return {x, std::move(masks)};
  }

 private:
  std::vector<std::shared_ptr<PyBlock<T>>> blocks_;
};

}  // namespace las
