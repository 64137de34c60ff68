// What "close" means. Scores are similarities: bigger is closer, for every metric.
#pragma once

namespace shortlist {

// cosine: u.x of the rows normalised to length 1; dot: u.x; euclidean: -||u - x||.
enum class Metric : int { cosine = 0, dot = 1, euclidean = 2 };

}  // namespace shortlist
