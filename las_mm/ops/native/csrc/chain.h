// Blocks that follow each other, run by one team of threads.
#pragma once

#include "block.h"

namespace las {

template <class T>
struct Link {
  const Block<T>* block;
  Call<T> call;
};

// Sec. 3.4, block by block: the decision, then the first convolution where the second one reads it,
// the others at the active patches, added to the identity where they belong. Any number of threads
// gives the same bits.
//
// Pooling and the masker are linear, and a block changes only active patches. So where a block has
// rows of its output at hand, it also says what the next maskers will think of them, and none of
// these reads the feature again.
template <class T>
void run_chain(std::vector<Link<T>>& links, int threads);

}  // namespace las
