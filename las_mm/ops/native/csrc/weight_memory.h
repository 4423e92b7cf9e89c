// Memory for packed weights.
#pragma once

#include <cstddef>
#include <memory>

namespace las {

// At least so many bytes, aligned to cache lines and not initialised, in large pages where the system
// has them: a forward reads all weights of a network once, and of usual pages it would look up the
// addresses of some ten thousand. Weights packed one after another share pages, which are given back
// with the last of them.
std::shared_ptr<char> allocate_weights(size_t bytes);

}  // namespace las
